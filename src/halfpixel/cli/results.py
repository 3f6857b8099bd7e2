"""What `predict` writes: names that never collide, and one writer for each kind of result."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from halfpixel.cli.run import plural, write_with_folder
from halfpixel.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from halfpixel.structures.instances import Instances

PLACES = {
    "coco": "instances.json",
    "overlay": "overlay",
    "labels": "labels",
    "table": "objects.csv",
    "cutouts": "cutouts",
}
"""What can be saved, and under which name in the output folder."""

COLUMNS = (
    "image",
    "object",
    "class",
    "score",
    "left_px",
    "top_px",
    "right_px",
    "bottom_px",
    "centroid_x_px",
    "centroid_y_px",
    "area_px",
)


def parse_save(save: str) -> tuple[str, ...]:
    """The kinds in a comma-separated list.

    Raises:
        ArgumentError: none, or one that there is not.
    """
    kinds = tuple(dict.fromkeys(kind for part in save.split(",") if (kind := part.strip())))
    unknown = [kind for kind in kinds if kind not in PLACES]
    if unknown or not kinds:
        what = f"there is no {unknown[0]!r}" if unknown else "it is empty"
        raise ArgumentError(f"--save: {what}; choose from {','.join(PLACES)}")
    return kinds


def refuse_to_overwrite(places: Collection[Path]) -> None:
    """Keep earlier results.

    Raises:
        ArgumentError: one of the files, or something in one of the folders, exists.
    """
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ArgumentError(f"{place} exists already; choose another --out, or say --overwrite")


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image: its path from the folder that all of them have in common, with `/`."""
    full = [Path(os.path.normpath(path.absolute())) for path in paths]
    common = os.path.commonpath([path.parent for path in full]) if full else "."
    # a name that is not text (bytes of another encoding) would make the files unreadable for others
    return [os.fsencode(path.relative_to(common).as_posix()).decode(errors="replace") for path in full]


def output_stems(names: Sequence[str]) -> list[str]:
    """The names without their suffixes; those keep them that would otherwise share one, as `a.png` and `a.tif`."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    shared = Counter(stem.casefold() for stem in stems)
    chosen = [stem if shared[stem.casefold()] == 1 else name for name, stem in zip(names, stems, strict=True)]
    return chosen if len({one.casefold() for one in chosen}) == len(chosen) else list(names)


WRITTEN = {
    "coco": "instances.json",
    "overlay": "overlay/**/*.png",
    "labels": "labels/**/*.tif",
    "table": "objects.csv",
    "cutouts": "cutouts/**/[0-9]*.png",
}
"""What an earlier run may have left of each kind."""


def refuse_to_mix(out: Path, kinds: Collection[str]) -> None:
    """Keep results of two runs from standing side by side and contradicting each other.

    Raises:
        ArgumentError: an earlier run wrote a kind that this one would not replace.
    """
    for kind, pattern in WRITTEN.items():
        if kind not in kinds and any(out.glob(pattern)):
            raise ArgumentError(
                f"{out / PLACES[kind]} is of an earlier run and would not be replaced; add {kind} to --save, or choose "
                "another --out"
            )


def remove_earlier(out: Path, kinds: Collection[str]) -> None:
    """Remove what an earlier run left of these kinds."""
    for kind in kinds:
        for old in out.glob(WRITTEN[kind]):
            old.unlink()


class Results:
    """A folder of results, filled image by image; what spans all images is written by `finish`."""

    def __init__(self, out: Path, kinds: Sequence[str], paths: Sequence[Path]) -> None:
        self.out = out
        self.kinds = kinds
        names = output_names(paths)
        self.names = dict(zip(paths, zip(names, output_stems(names), strict=True), strict=True))
        self.images: list[tuple[int, str, Instances]] = []
        self.rows: list[tuple[object, ...]] = []
        self.written = dict.fromkeys(kinds, 0)

    def add(self, path: Path, picture: npt.NDArray[np.uint8], objects: Instances) -> None:
        """Write what belongs to one image."""
        name, stem = self.names[path]
        if "overlay" in self.kinds:
            self._write_overlay(self.out / "overlay" / f"{stem}.png", picture, objects)
        if "labels" in self.kinds:
            self._write_labels(self.out / "labels" / f"{stem}.tif", objects)
        if "cutouts" in self.kinds:
            self._write_cutouts(self.out / "cutouts" / stem, picture, objects)
        if "table" in self.kinds:
            self.rows += object_rows(name, objects)
        if "coco" in self.kinds:
            self.images.append((len(self.images) + 1, name, objects.without_probabilities()))

    def finish(self, class_names: Sequence[str]) -> list[tuple[str, str]]:
        """Write the files that span all images; what is where, for people."""
        from halfpixel.data.coco import write_coco

        self.out.mkdir(parents=True, exist_ok=True)
        if "coco" in self.kinds:
            write_coco(self.out / PLACES["coco"], self.images, class_names)
        if "table" in self.kinds:
            write_with_folder(self.out / PLACES["table"], csv_bytes(COLUMNS, self.rows))
        what = {
            "coco": "the objects with their masks, as a COCO data set",
            "overlay": f"the objects drawn over the image, {plural(self.written.get('overlay', 0), 'picture')}",
            "labels": f"each pixel is its object's number, {plural(self.written.get('labels', 0), 'label image')}",
            "table": f"one row per object, {plural(len(self.rows), 'row')}",
            "cutouts": f"one picture per object, {plural(self.written.get('cutouts', 0), 'picture')}",
        }
        return [(str(self.out / place), what[kind]) for kind, place in PLACES.items() if kind in self.kinds]

    def _write_overlay(self, path: Path, picture: npt.NDArray[np.uint8], objects: Instances) -> None:
        from halfpixel.data.images import png_bytes
        from halfpixel.viz.overlay import count_caption, draw_overlay

        drawn = draw_overlay(picture, objects, caption=count_caption(objects))
        write_with_folder(path, png_bytes(drawn))
        self.written["overlay"] += 1

    def _write_labels(self, path: Path, objects: Instances) -> None:
        import numpy as np
        import tifffile

        if objects.masks is None:
            raise ArgumentError("--save labels needs a model that draws masks; this one finds boxes only")
        labels = objects.masks.label_image().numpy()
        file = io.BytesIO()
        tifffile.imwrite(file, labels.astype(np.uint16 if len(objects) < 1 << 16 else np.uint32), compression="zlib")
        write_with_folder(path, file.getvalue())
        self.written["labels"] += 1

    def _write_cutouts(self, folder: Path, picture: npt.NDArray[np.uint8], objects: Instances) -> None:
        from halfpixel.data.images import png_bytes
        from halfpixel.viz.cutouts import cut_out

        for number, pixels in enumerate(cut_out(picture, objects), start=1):
            path = folder / f"{number:04d}.png"
            write_with_folder(path, png_bytes(pixels))
            self.written["cutouts"] += 1


def object_rows(name: str, objects: Instances) -> list[tuple[object, ...]]:
    """One row of `COLUMNS` for each object, numbered from 1 as in label images and cut-outs."""
    rows: list[tuple[object, ...]] = []
    for k, (centroid, area) in enumerate(zip(*_centroids_and_areas(objects), strict=True)):
        label, score, box = int(objects.labels[k]), float(objects.scores[k]), objects.boxes_xyxy[k].tolist()
        numbers = (*box, *(centroid or ("", "")))
        shown = [f"{one:.2f}" if isinstance(one, float) else one for one in numbers]
        rows.append((name, k + 1, objects.class_names[label], f"{score:.4f}", *shown, f"{area:g}"))
    return rows


def _centroids_and_areas(objects: Instances) -> tuple[list[tuple[float, float] | None], list[float]]:
    """Of the mask's pixels, or of the box where there is no mask; an object without pixels has no centroid."""
    centroids: list[tuple[float, float] | None] = []
    if objects.masks is None:
        x0, y0, x1, y1 = objects.boxes_xyxy.unbind(1)
        centroids += list(zip(((x0 + x1) / 2).tolist(), ((y0 + y1) / 2).tolist(), strict=True))
        return centroids, ((x1 - x0) * (y1 - y0)).tolist()
    areas = []
    for crop, (x, y) in objects.masks.placed():
        rows, columns = crop.nonzero(as_tuple=True)
        areas.append(float(len(rows)))
        at = (x + float(columns.float().mean()) + 0.5, y + float(rows.float().mean()) + 0.5) if len(rows) else None
        centroids.append(at)
    return centroids, areas


def csv_bytes(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """A table as a UTF-8 CSV file."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([columns, *rows])
    return file.getvalue().encode("utf-8", "backslashreplace")
