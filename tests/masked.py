"""Objects made of arrays, for the tests beside this file."""

import numpy as np
import torch

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks, SoftMasks


def masked(*masks: np.ndarray, names: tuple[str, ...] = ("cell",), labels: list[int] | None = None) -> Instances:
    """Objects with these masks `[h, w]` on one canvas."""
    return with_masks(CropMasks.from_dense(torch.from_numpy(np.stack(masks).astype(bool))), names, labels)


def with_masks(masks: CropMasks, names: tuple[str, ...] = ("cell",), labels: list[int] | None = None) -> Instances:
    n = len(masks)
    which = torch.zeros(n, dtype=torch.int64) if labels is None else torch.tensor(labels)
    return Instances(masks.size_hw, masks.boxes_xyxy(), torch.linspace(0.9, 0.6, n), which, names, masks)


def boxed(*boxes: tuple[float, ...], size_hw: tuple[int, int] = (40, 50)) -> Instances:
    """Objects without masks."""
    n = len(boxes)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(size_hw, corners, torch.full((n,), 0.5), torch.zeros(n, dtype=torch.int64), ("cell",))


def soft_masks(probabilities: np.ndarray, boxes: list[list[float]], size_hw: tuple[int, int]) -> CropMasks:
    soft = SoftMasks(torch.from_numpy(probabilities).float().unbind(), torch.tensor(boxes), "half_pixel")
    return CropMasks.from_soft(soft, size_hw)


def disc(radius: float, centre_xy: tuple[float, float], size_hw: tuple[int, int] = (40, 50)) -> np.ndarray:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    return (x - centre_xy[0]) ** 2 + (y - centre_xy[1]) ** 2 <= radius**2


def ring_and_pieces() -> np.ndarray:
    """A mask with a hole in which there is an island, a piece aside, and one that touches it at a corner only."""
    mask = disc(13, (17, 19)) & ~disc(8, (16, 20)) | disc(3, (16, 20))
    mask[30:35, 40:46] = True
    mask[35, 46] = True
    mask[0, 49] = True
    return mask
