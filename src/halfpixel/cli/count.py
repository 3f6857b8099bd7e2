"""`halfpixel count`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from halfpixel.cli.console import (
    Note,
    Walk,
    calibration_at,
    check_folder,
    check_limits,
    describe,
    model_digest,
    name_some,
    plain_table,
    plural,
    say,
    say_json,
    show,
    warn,
    write_with_folder,
)
from halfpixel.cli.first_pass import explain_savings, for_resuming, open_both, savings_json, savings_of
from halfpixel.cli.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.cli.speed_options import AS_USUAL, SpeedOptions, describe_speed, speed_json
from halfpixel.errors import ArgumentError
from halfpixel.jobs.journal import Facts, Parts, resumable
from halfpixel.jobs.result_kinds import csv_bytes
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture
    from halfpixel.structures.calibration import Calibration
    from halfpixel.structures.instances import Instances

MANY_CLASSES = 10
"""With more classes than this, those that were found nowhere are left out of tables."""

OURS = ("image", "class", "count")
"""The columns that every table of counts begins with."""
INTERVAL = ("low", "high", "level", "estimate")
DENSITY = ("counted", "area_px", "per_megapixel", "per_mm2")

Frame = Literal["plain", "unbiased"]


def count(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    model: str = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    density: Frame | None = None,
    csv: Path | None = None,
    resume: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    images: ImageOptions = AS_THEY_ARE,
    speed: SpeedOptions = AS_USUAL,
) -> int:
    """Count the objects in images: a table of image, class and count, and a total.

    With a model that `halfpixel calibrate` has calibrated, a count comes with an interval: 127 (118-135, 90%) says that
    127 objects were found, and that the true count is from 118 to 135 for 90% of the images that are like those that
    the model was calibrated on.

    Args:
        paths: Image files, folders of images, or globs in quotes (** stands for folders of any depth).
        model: A named model (see `halfpixel models`) or a model file.
        first_pass: A U-Net (a name, such as nuclei-unet, or a file) that looks at the reduced image first; the model
            then looks only where it saw something.
        threshold: Count objects that score at least this, 0 to 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        density: Also objects per mm2, or per megapixel where the size of a pixel is not known: plain takes all objects
            and the whole image; unbiased corrects for objects that the border cuts, with a counting frame (Gundersen
            1977).
        csv: Write the table to this file as well. An earlier table of counts is replaced, any other file kept.
        resume: Go on with an interrupted run that had --csv: give the same command again. At most one image was lost.
        as_json: Print JSON instead of the table.
        images: How images are read and measured.
        speed: What the model runs on, and how fast.
    """
    check_limits(threshold, limit)
    if csv is not None:
        _check_csv(csv)
    if resume and csv is None:
        raise ArgumentError("--resume: only a run with --csv can be resumed")
    reading = images.reading()
    walk = Walk()
    files = walk.find(paths)
    if not files:
        return walk.exit_code
    predictor = open_both(model, first_pass, speed)
    threshold = predictor.info.score_threshold if threshold is None else threshold
    limit = predictor.info.detection_limit if limit is None else limit
    counting = Counting(threshold, calibration_at(predictor, threshold), density, images)
    options: dict[str, object] = {"--threshold": threshold, "--limit": limit, "--density": density}
    if csv is not None:
        options |= {"model (SHA-256)": model_digest(model), **for_resuming(first_pass), **images.for_resuming()}
        options |= speed.for_resuming()
    folder = None if csv is None else csv.with_name(f".{csv.name}.halfpixel-run")
    parts = Parts(folder, options, {path: str(path) for path in files})
    if resume:
        parts.resume()
    with resumable() if csv is not None else nullcontext():
        for picture, objects in parts.walk(walk, predictor, counting.lowest, limit, reading, threshold):
            counting.add(parts, walk, picture, objects)
        found = parts.facts()
        walk.notes = {facts["image"]: Note(**facts["note"]) for facts in found}
        if not found:
            return walk.exit_code
        total = {name: sum(facts["counts"].get(name, 0) for facts in found) for name in predictor.class_names}
        if csv is not None:
            write_with_folder(csv, counting.csv(found, _shown(total)))
            parts.remove()
    if as_json:
        how: dict[str, object] = {"model": model, "threshold": threshold, "limit": limit}
        how |= speed_json(predictor, speed)
        if first_pass is not None:
            how["first_pass"] = savings_json(first_pass, savings_of(found))
        rows = [counting.json(facts, predictor.class_names) for facts in found]
        say_json({**how, "images": rows, "total": total, "failed": walk.failures_json()})
    else:
        _show_table(found, total, counting)
        sentence = f"{plural(sum(total.values()), 'object')} on {walk.n_images}"
        how_run = describe_speed(predictor, speed)
        say(f"{sentence}, scoring at least {threshold:g}. Model {describe(model)}, {how_run}.")
        counting.explain(found, total, predictor.info.calibration)
        if first_pass is not None:
            explain_savings(first_pass, savings_of(found))
    walk.warn(limit, advice=images.advice)
    counting.warn(found)
    return walk.exit_code


def _check_csv(csv: Path) -> None:
    """Refuse a file that cannot be written, or that is not ours to replace, before a model is opened.

    Raises:
        ArgumentError: a folder, a path through a file, or an existing file that is no table of counts.
    """
    if csv.is_dir():
        raise ArgumentError(f"--csv {csv}: this is a folder, not a file")
    check_folder(csv.parent, f"--csv {csv}")
    if csv.exists() and not _is_ours(csv):
        raise ArgumentError(f"--csv {csv}: this file exists and is no table of counts; choose another name")


def _is_ours(path: Path) -> bool:
    """Whether a file begins as a table of counts does."""
    if not path.is_file():  # a device or a pipe, which reading might wait for
        return False
    start = f"{','.join(OURS)},".encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start


@dataclass(frozen=True)
class Counting:
    """How the objects of an image become the facts that tables, JSON and CSV show.

    Attributes:
        threshold: objects that score at least this are counted.
        calibration: for the intervals, if there are any.
        density: which kind of it, if any.
        images: what is known of the pixels.
    """

    threshold: float
    calibration: Calibration | None
    density: Frame | None
    images: ImageOptions

    @property
    def lowest(self) -> float:
        """Objects are needed from this score upwards: intervals look at the doubtful ones, too."""
        return self.threshold if self.calibration is None else self.calibration.lowest_score

    def add(self, parts: Parts, walk: Walk, picture: Picture, objects: Instances) -> None:
        """Keep the facts of one image, or report that it is too small for the counting frame."""
        listed = objects.above(self.threshold)
        pixel_size_um, doubt = (None, "") if self.density is None else self.images.pixel_size(picture)
        facts = walk.facts(picture, listed, doubt)
        if self.calibration is not None:
            facts["intervals"] = self._intervals(self.calibration, objects)
        if self.density is not None:
            try:
                facts["densities"] = self._densities(listed, pixel_size_um)
            except ArgumentError as error:
                walk.fail(facts["image"], f"{facts['image']}: {error}")
                return
        parts.add(picture, facts)

    @staticmethod
    def _intervals(calibration: Calibration, objects: Instances) -> Facts | None:
        """For each class; none at all where the detection limit cut off objects that they need."""
        if objects.saturated:
            return None
        of_classes = [objects.scores[objects.labels == k].numpy() for k in range(len(objects.class_names))]
        names_and_intervals = zip(objects.class_names, calibration.intervals(of_classes), strict=True)
        return {name: {key: getattr(one, key) for key in INTERVAL} for name, one in names_and_intervals}

    def _densities(self, listed: Instances, pixel_size_um: float | None) -> Facts:
        """For each class."""
        from halfpixel.measure.density import density

        found = {}
        for k, name in enumerate(listed.class_names):
            one = density(listed[listed.labels == k], unbiased=self.density == "unbiased", pixel_size_um=pixel_size_um)
            found[name] = {key: getattr(one, key) for key in DENSITY}
        return found

    def columns(self) -> tuple[str, ...]:
        """What a class of an image has besides its count."""
        return (INTERVAL if self.calibration is not None else ()) + (DENSITY if self.density is not None else ())

    def numbers(self, facts: Facts, name: str) -> Facts:
        """The values of `columns`; those that there are not are None."""
        interval = (facts.get("intervals") or {}).get(name, {})
        density = facts.get("densities", {}).get(name, {})
        return {column: (interval | density).get(column) for column in self.columns()}

    def csv(self, found: Sequence[Facts], shown: Sequence[str]) -> bytes:
        """A row for each class of each image."""
        rows = []
        for facts in found:
            reached = "yes" if facts["note"]["saturated"] else "no"
            for name in shown:
                numbers = self.numbers(facts, name).values()
                cells = ["" if one is None else f"{one:.10g}" for one in numbers]
                count = facts["counts"].get(name, 0)
                rows.append((facts["image"], name, count, *cells, f"{self.threshold:g}", reached))
        header = (*OURS, *self.columns(), "score_threshold", "limit_reached")
        return csv_bytes(header, rows)

    def json(self, facts: Facts, class_names: Sequence[str]) -> Facts:
        """An image, with all classes."""
        counts = {name: facts["counts"].get(name, 0) for name in class_names}
        found = {"image": facts["image"], "counts": counts, "limit_reached": facts["note"]["saturated"]}
        return found | {key: facts[key] for key in ("intervals", "densities") if key in facts}

    def cells(self, facts: Facts, name: str) -> tuple[str, ...]:
        """A row of the table: the count, with its interval, and the density."""
        numbers = self.numbers(facts, name)
        text = f"{facts['counts'].get(name, 0):,}"
        if numbers.get("low") is not None:
            text += f" ({numbers['low']:,}-{numbers['high']:,}, {numbers['level']:.0%})"
        if self.density is None:
            return (text,)
        per_mm2 = numbers["per_mm2"]
        density = f"{numbers['per_megapixel']:,.4g} per Mpx" if per_mm2 is None else f"{per_mm2:,.4g} per mm2"
        return text, density

    def explain(self, found: Sequence[Facts], total: Mapping[str, int], of_model: Calibration | None) -> None:
        """Say what is not obvious of the numbers."""
        if self.calibration is not None:
            if not any(facts["intervals"] and _rows_of(facts, total) for facts in found):
                return
            level = f"{self.calibration.level:.0%}"
            say(f"In brackets where the true count is, for {level} of images like those of the calibration.")
        elif of_model is not None:
            say(f"No intervals: the model is calibrated for --threshold {of_model.threshold:g}.")

    def warn(self, found: Sequence[Facts]) -> None:
        """Name the images that could not get an interval."""
        without = [facts["image"] for facts in found if self.calibration is not None and facts["intervals"] is None]
        if without:
            where = f"{plural(len(without), 'image')} ({name_some(without)})"
            warn(f"no interval for {where}: the detection limit cut off doubtful objects that it needs; raise --limit")


def _shown(total: Mapping[str, int]) -> list[str]:
    return [name for name in total if total[name] or len(total) <= MANY_CLASSES]


def _rows_of(facts: Facts, total: Mapping[str, int]) -> list[str]:
    """The classes that have a row in the table of an image."""
    return [name for name in _shown(total) if facts["counts"].get(name) or len(total) <= MANY_CLASSES]


def _show_table(found: Sequence[Facts], total: Mapping[str, int], counting: Counting) -> None:
    numbers = ("count",) if counting.density is None else ("count", "density")
    table = plain_table("image", "class", *numbers, right=numbers)
    for facts in found:
        rows = [(name, *counting.cells(facts, name)) for name in _rows_of(facts, total)] or [("nothing", "0")]
        for k, row in enumerate(rows):
            table.add_row("" if k else facts["image"], *row)
    if len(found) > 1:
        table.add_section()
        for k, name in enumerate(_shown(total)):
            table.add_row("" if k else "total", name, f"{total[name]:,}")
    show(table)
