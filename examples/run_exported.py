"""Count the objects of an image with a model that `halfpixel export --to onnx` wrote, without halfpixel and torch.

    python run_exported.py cells.onnx cells.png --out labels.png

Needs onnxruntime, numpy and Pillow. In the label image, background is 0 and each object has a number of its own, the
surest is 1. It does what `halfpixel predict` does for images that fit into the network at once.
"""

import argparse
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

Array = npt.NDArray[Any]
Placed = tuple[int, int, Array]
"""A mask's first row and column, and its pixels."""


def sample(values: Array, y: Array, x: Array) -> Array:
    """Bilinear values of `[h, w, ...]` at rows `y` and columns `x`; 0 is the centre of the first, edges continue."""
    for axis, position in enumerate((y, x)):
        position = position.clip(0, values.shape[axis] - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        part = (position - low).astype(np.float32).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
        values = values.take(low, axis) * (1 - part) + values.take(high, axis) * part
    return values


def prepare(pixels: Array, rules: dict[str, Any]) -> tuple[Array, tuple[int, int]]:
    """`[1, 3, H, W]` for the network, and the size in it that is no padding."""
    longest, brightest = max(pixels.shape[:2]), np.quantile(pixels, 0.999, method="inverted_cdf") / 255
    light = rules["stretch_below"] / brightest if 0 < brightest < rules["stretch_below"] else 1.0
    scale = rules["scale"] or min(rules["shortest_side"] / min(pixels.shape[:2]), rules["longest_side"] / longest)
    if scale * longest > rules["longest_side"] + 1:
        raise SystemExit("this image goes through the network in tiles: that needs halfpixel")
    size_hw = [max(int(side * scale), 1) for side in pixels.shape[:2]]
    image = ((pixels / np.float32(255) * np.float32(light)).clip(max=1) - rules["mean"]) / rules["std"]
    positions = [(np.arange(b) + 0.5) * a / b - 0.5 for a, b in zip(pixels.shape, size_hw, strict=False)]
    image = sample(image.astype(np.float32), *positions)
    rows, columns = (-side % rules["divisor"] for side in size_hw)
    return np.pad(image, ((0, rows), (0, columns), (0, 0))).transpose(2, 0, 1)[None].copy(), (size_hw[0], size_hw[1])


def paste(mask: Array, box: Array, size_hw: tuple[int, int]) -> Placed:
    """The pixels whose centres are in the box and have a probability above one half."""
    starts, positions = [], []
    for low, high, side in zip(box[1::-1], box[:1:-1], size_hw, strict=True):  # y, then x
        first, last = (int(np.ceil(edge - 0.5).clip(0, side)) for edge in (low, high))
        positions.append((np.arange(first, last) + 0.5 - low) / max(high - low, 1e-9) * len(mask) - 0.5)
        starts.append(first)
    return starts[0], starts[1], sample(mask, *positions) > 0.5


def overlap(a: Placed, b: Placed) -> float:
    """Intersection over union of two masks."""
    top, left = max(a[0], b[0]), max(a[1], b[1])
    bottom, right = (min(a[k] + a[2].shape[k], b[k] + b[2].shape[k]) for k in (0, 1))
    if bottom <= top or right <= left:
        return 0.0
    both = (m[top - y : bottom - y, left - x : right - x] for y, x, m in (a, b))
    shared = np.logical_and(*both).sum()
    return float(shared / (a[2].sum() + b[2].sum() - shared))


def main() -> None:
    """Print the count, write the label image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "image"):
        parser.add_argument(name)
    parser.add_argument("--out", default="labels.png")
    arguments = parser.parse_args()
    session = onnxruntime.InferenceSession(arguments.model, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["halfpixel"])
    settings, limit = about["settings"], about["detection_limit"]
    if settings.get("alignment") != "half_pixel":
        raise SystemExit("this example pastes masks exactly; the model wants another way, or finds no masks in boxes")

    pixels = np.array(Image.open(arguments.image).convert("RGB"))
    image, size_hw = prepare(pixels, about["input"])
    given = {
        "image": image,
        "size_hw": np.array([size_hw]),
        "score_threshold": np.array(about["score_threshold"], dtype=np.float32),
        "detection_limit": np.array(limit),
    }
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, given), strict=True))

    factor_y, factor_x = (a / b for a, b in zip(pixels.shape, size_hw, strict=False))
    boxes = found["boxes_xyxy"] * np.array([factor_x, factor_y, factor_x, factor_y], dtype=np.float32)
    margins = (boxes[:, 2:] - boxes[:, :2]) * settings["mask_margin"]
    boxes = np.concatenate([boxes[:, :2] - margins, boxes[:, 2:] + margins], axis=1)
    kept: list[tuple[int, Placed]] = []
    for mask, box, label in zip(found["masks"], boxes, found["labels"].tolist(), strict=True):  # the surest come first
        placed, most = paste(mask, box, pixels.shape[:2]), settings["mask_iou"]
        rivals = [other for its_label, other in kept if its_label == label]
        if most is None or (placed[2].any() and all(overlap(placed, other) <= most for other in rivals)):
            kept.append((label, placed))

    labels = np.zeros(pixels.shape[:2], dtype=np.uint16)
    for number, (_, (top, left, mask)) in reversed(list(enumerate(kept[:limit], start=1))):
        labels[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = number
    Image.fromarray(labels).save(arguments.out)
    print(f"{len(kept[:limit])} objects (score above {about['score_threshold']}), drawn in {arguments.out}")


if __name__ == "__main__":
    main()
