"""What `predict` writes: which kinds of results there are, where they go, and names that never collide."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from halfpixel.errors import ArgumentError


@dataclass(frozen=True)
class Kind:
    """One kind of results.

    Attributes:
        place: the file, or the folder with something for each image, in the output folder.
        pattern: what an earlier run may have left there.
        what: it is, for people.
        each: what there are several of; empty for one file that needs no number.
        of: what there is one of these for.
    """

    place: str
    pattern: str
    what: str
    each: str = ""
    of: Literal["image", "object"] = "image"


KINDS = {
    "coco": Kind("instances.json", "instances.json", "the objects with their masks, as a COCO data set"),
    "overlay": Kind("overlay", "overlay/**/*.png", "the objects drawn over the image", "picture"),
    "labels": Kind("labels", "labels/**/*.tif", "each pixel is its object's number", "label image"),
    "table": Kind("objects.csv", "objects.csv", "one row per object", "row", "object"),
    "parquet": Kind("objects.parquet", "objects.parquet", "the same table as an Apache Parquet file"),
    "cutouts": Kind("cutouts", "cutouts/**/[0-9]*.png", "one picture per object", "picture", "object"),
    "geojson": Kind("geojson", "geojson/**/*.geojson*", "the objects as detections for QuPath", "file"),
    "rois": Kind("rois", "rois/**/*.zip", "the objects as regions for ImageJ and Fiji", "ZIP file"),
    "blurred": Kind("blurred", "blurred/**/*.png", "the image with the objects made unrecognisable", "picture"),
}
"""What can be saved."""

EXTRAS = {"parquet": ("pyarrow", "parquet"), "rois": ("roifile", "imagej")}
"""Kinds that take a library which is installed with an extra of ours."""


def parse_save(save: str) -> tuple[str, ...]:
    """The kinds in a comma-separated list.

    Raises:
        ArgumentError: none, or one that there is not.
        MissingDependencyError: one takes an optional library that is not installed.
    """
    kinds = tuple(dict.fromkeys(kind for part in save.split(",") if (kind := part.strip())))
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        what = f"there is no {unknown[0]!r}" if unknown else "it is empty"
        raise ArgumentError(f"--save: {what}; choose from {','.join(KINDS)}")
    for kind in kinds:
        if kind in EXTRAS:
            from halfpixel.optional import load_extra

            module, extra = EXTRAS[kind]
            load_extra(module, f"halfpixel[{extra}]")
    return kinds


def refuse_to_overwrite(places: Collection[Path]) -> None:
    """Keep earlier results.

    Raises:
        ArgumentError: one of the files, or something in one of the folders, exists.
    """
    for place in places:
        if place.is_file() or (place.is_dir() and any(place.iterdir())):
            raise ArgumentError(f"{place} exists already; choose another --out, or say --overwrite")


def refuse_to_mix(out: Path, kinds: Collection[str]) -> None:
    """Keep results of two runs from standing side by side and contradicting each other.

    Raises:
        ArgumentError: an earlier run wrote a kind that this one would not replace.
    """
    for name, kind in KINDS.items():
        if name not in kinds and any(out.glob(kind.pattern)):
            raise ArgumentError(
                f"{out / kind.place} is of an earlier run and would not be replaced; add {name} to --save, or choose "
                "another --out"
            )


def remove_earlier(out: Path, kinds: Collection[str]) -> None:
    """Remove what an earlier run left of these kinds."""
    for kind in kinds:
        for old in out.glob(KINDS[kind].pattern):
            old.unlink()


def remove_torn(out: Path, kinds: Collection[str]) -> None:
    """Remove the files that a killed run was about to write."""
    for kind in kinds:
        place = out / KINDS[kind].place
        for torn in place.rglob(".*.part") if place.is_dir() else out.glob(f".{place.name}.*.part"):
            torn.unlink()


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


PLANE = re.compile(r"_[a-z]+\d+$")
"""The end of `stack_z003`, the name of a plane's results."""


@dataclass(frozen=True)
class Names:
    """What images are called in the results.

    Attributes:
        tables: for each file its name in tables.
        stems: for each file the names of its results, without a suffix.
    """

    tables: dict[Path, str]
    stems: dict[Path, str]

    @classmethod
    def of(cls, paths: Sequence[Path], planes: bool) -> Names:
        """For these files, of which each plane is an image of its own if `planes`."""
        names = output_names(paths)
        stems = output_stems(names)
        if planes:  # the planes of stack.tif and the file stack_z003.png must not share a name
            stacks = {start for stem in stems for start in _starts(stem.casefold())}
            stems = [name if stem.casefold() in stacks else stem for name, stem in zip(names, stems, strict=True)]
        return cls(dict(zip(paths, names, strict=True)), dict(zip(paths, stems, strict=True)))

    def in_tables(self, path: Path, plane: str) -> str:
        """The name of an image in tables."""
        return f"{self.tables[path]}#{plane}" if plane else self.tables[path]

    def stem(self, path: Path, plane: str) -> str:
        """The name of an image's results, without a suffix."""
        return f"{self.stems[path]}_{plane}" if plane else self.stems[path]


def _starts(stem: str) -> list[str]:
    """What is left of `stack_z003_t01` without its planes: `stack_z003` and `stack`."""
    found = []
    while (shorter := PLANE.sub("", stem)) != stem:
        found.append(shorter)
        stem = shorter
    return found


def csv_bytes(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    """A table as a UTF-8 CSV file."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([columns, *rows])
    return file.getvalue().encode("utf-8", "backslashreplace")
