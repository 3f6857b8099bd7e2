"""Generated images as files, for documents and tests that begin with a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from halfpixel.data.images.rgb8 import png_bytes
from halfpixel.data.synthetic import CLASS_NAMES, Cells
from halfpixel.files import write_whole
from halfpixel.outputs.coco import write_coco


def write_cells(out: Path, images: Sequence[Cells]) -> Path:
    """Write generated images as a COCO data set: `out/images/` and `out/instances.json`, whose path is returned."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    entries = []
    for k, image in enumerate(images, start=1):
        name = f"cells_{k:03d}.png"
        write_whole(out / "images" / name, png_bytes(image.picture))
        entries.append((k, name, image.objects))
    write_coco(out / "instances.json", entries, CLASS_NAMES)
    return out / "instances.json"
