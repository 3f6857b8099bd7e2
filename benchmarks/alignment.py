"""What exact coordinates are worth, by the size of the object.

A perfect network is played: ellipses lie at random fractions of a pixel, their masks are sampled onto 28 x 28 targets
in their own float boxes, and the targets are pasted back. What is lost on the way, beyond the 28 x 28 grid, is lost to
coordinates. `truncated` takes the same targets and pastes them both ways: truncated against exact.

    python benchmarks/alignment.py
    python benchmarks/alignment.py --sizes 10 20 --count 1000
"""

import argparse

import torch
from torch import Tensor

from halfpixel.ops.mask_targets import mask_targets
from halfpixel.ops.paste import Alignment
from halfpixel.structures.masks import CropMasks, SoftMasks

GRID = 28
RESAMPLES = 1000


def ellipses(side: float, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Random ellipses as masks `[count, s, s]` and their float boxes `[count, 4]`, in pixels.

    The longer side measures `side`, the shorter one 0.7 to 1 times that; a pixel belongs when its centre does.
    """
    generator = torch.Generator().manual_seed(seed)
    sides = side * (0.7 + 0.3 * torch.rand(count, 2, generator=generator))
    sides[torch.arange(count), torch.randint(2, (count,), generator=generator)] = side
    corners = 4 + torch.rand(count, 2, generator=generator)
    boxes_xyxy = torch.cat([corners, corners + sides], dim=1)
    centres = torch.arange(int(side) + 10) + 0.5
    offsets = [(centres - (corners + sides / 2)[:, k, None]) / (sides / 2)[:, k, None] for k in range(2)]
    return offsets[1][:, :, None] ** 2 + offsets[0][:, None, :] ** 2 < 1, boxes_xyxy


def targets_of(masks: CropMasks, boxes_xyxy: Tensor, alignment: Alignment) -> Tensor:
    """What the mask branch should predict for each object in its own box."""
    return mask_targets(masks.crops, masks.offsets_xy, boxes_xyxy, masks.size_hw, GRID, alignment)


def ious(a: CropMasks, b: CropMasks) -> Tensor:
    """Overlap of each pair of masks."""
    one, other = a.dense(), b.dense()
    return (one & other).sum((1, 2)) / (one | other).sum((1, 2))


def round_trip_ious(side: float, alignment: Alignment, count: int, seed: int) -> Tensor:
    """IoU of each mask with itself after it went through targets and pasting."""
    dense, boxes_xyxy = ellipses(side, count, seed)
    masks = CropMasks.from_dense(dense)
    soft = SoftMasks(targets_of(masks, boxes_xyxy, alignment).unbind(), boxes_xyxy, alignment)
    return ious(masks, CropMasks.from_soft(soft, masks.size_hw))


def truncation_ious(side: float, count: int, seed: int) -> Tensor:
    """IoU of exact targets pasted with truncated boxes and the same targets pasted exactly."""
    dense, boxes_xyxy = ellipses(side, count, seed)
    masks = CropMasks.from_dense(dense)
    targets = targets_of(masks, boxes_xyxy, "half_pixel")
    pasted = [
        CropMasks.from_soft(SoftMasks(targets.unbind(), boxes_xyxy, alignment), masks.size_hw)
        for alignment in ("half_pixel", "torchvision")
    ]
    return ious(*pasted)


def median_interval(values: Tensor, seed: int) -> tuple[float, float]:
    """A 95 % bootstrap interval of the median."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(values), (RESAMPLES, len(values)), generator=generator)
    medians = values[drawn].median(dim=1).values
    low, high = torch.quantile(medians, torch.tensor([0.025, 0.975])).tolist()
    return low, high


def _cell(values: Tensor, seed: int) -> str:
    low, high = median_interval(values, seed)
    return f"{values.median():.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[8, 10, 16, 24, 32, 64], help="longer sides, px")
    parser.add_argument("--count", type=int, default=300, help="objects of each size")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"Median mask IoU of {given.count} ellipses, with 95 % bootstrap intervals")
    print(f"{'size px':>7}  {'half_pixel':>21}  {'torchvision':>21}  {'truncated':>21}")
    for side in given.sizes:
        columns = [
            round_trip_ious(side, "half_pixel", given.count, given.seed),
            round_trip_ious(side, "torchvision", given.count, given.seed),
            truncation_ious(side, given.count, given.seed),
        ]
        print(f"{side:>7g}  " + "  ".join(f"{_cell(values, given.seed):>21}" for values in columns))


if __name__ == "__main__":
    main()
