"""The files that `predict` writes: one image after the other, and at the end what spans all images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.cli.console import plural, write_with_folder
from halfpixel.errors import ArgumentError
from halfpixel.files import open_whole
from halfpixel.jobs.journal import Facts, Parts
from halfpixel.jobs.result_kinds import KINDS, Names

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture
    from halfpixel.measure.table import Column, Table
    from halfpixel.structures.calibration import Calibration
    from halfpixel.structures.instances import Instances

MEASURED = {"table", "parquet", "geojson"}
"""The kinds that take the measurements of all objects."""

ZIP_ENTRY = b"PK\x03\x04"
"""How a ZIP file begins that has something in it."""

ANNOTATIONS, MEASUREMENTS = 0, 1
"""The records of a part."""


@dataclass(frozen=True)
class Found:
    """All about one image.

    Attributes:
        picture: the image.
        objects: on it.
        pixel_size_um: of it, where it is known.
        table: the objects' measurements, where a kind of results takes them.
        blurred: names of the classes to make unrecognisable; None for all.
        gzip: compress what is text.
    """

    picture: Picture
    objects: Instances
    pixel_size_um: float | None
    table: Table | None
    blurred: Collection[str] | None
    gzip: bool


def write_overlay(out: Path, stem: str, found: Found) -> None:
    """The objects drawn over the image."""
    from halfpixel.data.images.rgb8 import png_bytes
    from halfpixel.viz.overlay import count_caption, draw_overlay

    drawn = draw_overlay(found.picture.rgb, found.objects, caption=count_caption(found.objects))
    write_with_folder(out / f"{stem}.png", png_bytes(drawn))


def write_labels(out: Path, stem: str, found: Found) -> None:
    """Each pixel its object's number."""
    from halfpixel.outputs.label_tiff import label_tiff_bytes

    if found.objects.masks is None:
        raise ArgumentError("--save labels needs a model that draws masks; this one finds boxes only")
    write_with_folder(out / f"{stem}.tif", label_tiff_bytes(found.objects.masks, found.pixel_size_um))


def write_cutouts(out: Path, stem: str, found: Found) -> None:
    """One picture with transparency for each object."""
    from halfpixel.data.images.rgb8 import png_bytes
    from halfpixel.viz.cutouts import cut_out

    for old in (out / stem).glob("[0-9]*.png"):  # of an interrupted run that saw another file under this name
        old.unlink()
    for number, pixels in enumerate(cut_out(found.picture.rgb, found.objects), start=1):
        write_with_folder(out / stem / f"{number:04d}.png", png_bytes(pixels))


def write_geojson(out: Path, stem: str, found: Found) -> None:
    """Detections for QuPath."""
    from halfpixel.outputs.geojson import write_geojson as write

    path = out / f"{stem}.geojson{'.gz' if found.gzip else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, found.objects, found.table)


def write_rois(out: Path, stem: str, found: Found) -> None:
    """Regions for ImageJ, if there are any."""
    from halfpixel.outputs.imagej import roi_zip_bytes

    path, data = out / f"{stem}.zip", roi_zip_bytes(found.objects)
    if data.startswith(ZIP_ENTRY):
        write_with_folder(path, data)
    else:
        path.unlink(missing_ok=True)  # of an interrupted run that saw another file under this name


def write_blurred(out: Path, stem: str, found: Found) -> None:
    """The image with objects made unrecognisable."""
    from halfpixel.data.images.rgb8 import png_bytes
    from halfpixel.viz.blur import blurred

    write_with_folder(out / f"{stem}.png", png_bytes(blurred(found.picture.rgb, found.objects, found.blurred)))


WRITERS: Mapping[str, Callable[[Path, str, Found], None]] = {
    "overlay": write_overlay,
    "labels": write_labels,
    "cutouts": write_cutouts,
    "geojson": write_geojson,
    "rois": write_rois,
    "blurred": write_blurred,
}
"""For kinds with something for each image: given the kind's folder and the image's name there."""


@dataclass(frozen=True)
class Results:
    """A folder of results, filled image by image; what spans all images is written by `finish`.

    Attributes:
        out: the folder.
        kinds: what to write.
        names: of the images.
        parts: what each image gave.
        blurred: names of the classes to make unrecognisable; None for all.
        gzip: compress what is text.
        calibration: gives tables the probability of each object, where there is one for the threshold.
    """

    out: Path
    kinds: Collection[str]
    names: Names
    parts: Parts
    blurred: Collection[str] | None = None
    gzip: bool = False
    calibration: Calibration | None = None

    def add(self, picture: Picture, objects: Instances, pixel_size_um: float | None, facts: Facts) -> None:
        """Write what belongs to one image."""
        from halfpixel.measure.object_table import measure_objects
        from halfpixel.measure.table import Table
        from halfpixel.outputs.coco import prediction_entries

        self.parts.begin()
        path, plane = picture.path, picture.plane
        name = self.names.in_tables(path, plane)
        table = None
        if MEASURED & set(self.kinds):
            measured = measure_objects(
                objects,
                channels=picture.channels,
                channel_names=_distinct(picture.channel_names),
                pixel_size_um=pixel_size_um,
            )
            table = Table({"image": [name] * len(objects), **measured.columns})
        found = Found(picture, objects, pixel_size_um, table, self.blurred, self.gzip)
        for kind in self.kinds:
            if kind in WRITERS:
                WRITERS[kind](self.out / KINDS[kind].place, self.names.stem(path, plane), found)
        annotations = prediction_entries(objects) if "coco" in self.kinds else []
        kept = None
        if table is not None and {"table", "parquet"} & set(self.kinds):
            kept = self._with_probability(table, objects)
        columns = [] if kept is None else list(kept.columns)
        facts = facts | {"name": name, "columns": columns}
        self.parts.add(picture, facts, (annotations, _plain(kept)))

    def _with_probability(self, table: Table, objects: Instances) -> Table:
        """The table with a column right after the score, if the model is calibrated."""
        from halfpixel.measure.table import Table

        columns: dict[str, Column] = {}
        for name, values in table.columns.items():
            columns[name] = values
            if name == "score" and self.calibration is not None:
                columns["probability"] = self.calibration.probability(objects.scores.numpy())
        return Table(columns)

    def finish(self, class_names: tuple[str, ...]) -> list[tuple[str, str]]:
        """Write the files that span all images; what is where, for people."""
        self.out.mkdir(parents=True, exist_ok=True)
        facts = self.parts.facts()
        if "coco" in self.kinds:
            self._write_coco(facts, class_names)
        if "table" in self.kinds:
            self._write_csv(facts)
        if "parquet" in self.kinds:
            self._write_parquet()
        objects = sum(sum(one["counts"].values()) for one in facts)
        places = []
        for name, kind in KINDS.items():
            if name in self.kinds:
                # files are counted: images without objects have no regions and no cut-outs
                number = sum(1 for _ in self.out.glob(kind.pattern)) if name in WRITERS else objects
                what = f"{kind.what}, {plural(number, kind.each)}" if kind.each else kind.what
                nothing = ", nothing to write" if name in WRITERS and not number else ""
                places.append((str(self.out / kind.place), what + nothing))
        return places

    def _write_coco(self, facts: list[Facts], class_names: tuple[str, ...]) -> None:
        from halfpixel.outputs.coco import image_entry, write_coco_entries

        write_coco_entries(
            self.out / KINDS["coco"].place,
            (image_entry(k, one["name"], one["size_hw"]) for k, one in enumerate(facts, start=1)),
            (
                {"image_id": k} | entry | {"category_id": 1 + entry["category_id"]}
                for k, entries in enumerate(self.parts.records(ANNOTATIONS), start=1)
                for entry in entries
            ),
            [{"id": k, "name": name} for k, name in enumerate(class_names, start=1)],
        )

    def _write_csv(self, facts: list[Facts]) -> None:
        """Images of other channels have other columns: all columns of all images, empty where an image has none."""
        from halfpixel.measure.table import Table

        columns = dict.fromkeys(column for one in facts for column in one["columns"])
        header = Table({column: [] for column in columns}).csv_bytes()
        with open_whole(self.out / KINDS["table"].place) as file:
            file.write(header)
            for table in map(_read_table, self.parts.records(MEASUREMENTS)):
                empty = [""] * len(table)
                aligned = Table({column: table.columns.get(column, empty) for column in columns})
                file.write(aligned.csv_bytes().removeprefix(header))

    def _write_parquet(self) -> None:
        from halfpixel.measure.table import Table

        table = Table.concat([_read_table(record) for record in self.parts.records(MEASUREMENTS)])
        write_with_folder(self.out / KINDS["parquet"].place, table.parquet_bytes())


def _distinct(channel_names: Sequence[str]) -> list[str]:
    """Names for columns: two channels of one name are told apart by their numbers."""
    times = Counter(channel_names)
    return [name if times[name] == 1 else f"{name} {k}" for k, name in enumerate(channel_names, start=1)]


Record = list[tuple[str, str, list[Any]]]
"""A table's columns as JSON: name, type of the numbers (empty for texts), values."""


def _plain(table: Table | None) -> Record:
    import numpy as np

    columns = {} if table is None else table.columns
    return [
        (name, str(values.dtype), values.tolist()) if isinstance(values, np.ndarray) else (name, "", list(values))
        for name, values in columns.items()
    ]


def _read_table(record: Record) -> Table:
    import numpy as np

    from halfpixel.measure.table import Table

    return Table({name: np.array(values, dtype=kind) if kind else values for name, kind, values in record})
