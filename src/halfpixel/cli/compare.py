"""`halfpixel compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import (
    Walk,
    between,
    check_folder,
    check_limits,
    describe,
    number,
    open_model,
    plain_table,
    plural,
    say,
    say_json,
    show,
    warn,
)
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.collect import (
    FILE_LIMIT,
    FILE_THRESHOLD,
    check_classes,
    few_overlap,
    open_dataset,
    predict_dataset,
    read_predictions,
    write_predictions,
)
from halfpixel.jobs.result_kinds import refuse_to_overwrite

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset, Sample
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.model_comparison import Comparison
    from halfpixel.evaluation.per_image import Candidate
    from halfpixel.structures.instances import Instances

WRITTEN = ("report.json", "index.html", "a/instances.json", "b/instances.json")
SHOWN = (
    "count_mae", "count_bias", "miss", "false positive", "merge", "split", "duplicate", "localisation",
    "class confusion", "quality_50", "quality_75", "mask_ap", "area_ratio",
)  # fmt: skip
"""The page has more."""


def compare(
    data: Path,
    /,
    *,
    out: Path,
    model: list[str] | None = None,
    predictions: list[Path] | None = None,
    images: Path | None = None,
    format: Format | None = None,
    threshold: list[float] | None = None,
    limit: int | None = None,
    slice_by: str = "modality",
    pictures: int = 8,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
) -> int:
    """Audit two models side by side on annotated images: count errors, merges, splits, misses, areas, pictures.

    Give --model twice, --predictions twice, or each once. The first is called A; a model comes before a file.

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        out: The folder for the page (index.html), report.json and, of models, the predictions (a/instances.json,
            b/instances.json).
        model: A named model (see `halfpixel models`) or a model file.
        predictions: A COCO file of predictions, for which no model runs.
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        threshold: All but average precision takes objects that score at least this, 0 to 1. Once for both, or twice.
            Default: each model's own.
        limit: At most this many objects an image. Default: each model's own.
        slice_by: An attribute of the images; everything is also measured for each of its values.
        pictures: How many images the page shows, of those on which the two differ most, at most.
        overwrite: Replace an earlier comparison in the folder.
        as_json: Print the whole report as JSON.
    """
    sources: list[str | Path] = [*(model or []), *(predictions or [])]
    thresholds = _thresholds(threshold or [])
    for threshold_of_one in thresholds:
        check_limits(threshold_of_one, limit)
    check_folder(out)
    if pictures < 0:
        raise ArgumentError(f"--pictures must be at least 0, got {pictures}")
    if len(sources) != 2:
        raise ArgumentError(f"expected --model and --predictions two times in all, got {len(sources)}")
    if not overwrite:
        refuse_to_overwrite([out / name for name in WRITTEN])
    dataset = open_dataset(data, images, format)
    contenders = [_open(source, dataset, own, limit) for source, own in zip(sources, thresholds, strict=True)]
    walks = [Walk() for _ in contenders]
    ran = []
    for walk, one in zip(walks, contenders, strict=True):
        dataset, found = one.run(walk, dataset)
        if not found:
            return walk.exit_code
        ran.append(found)
    from halfpixel.evaluation.evaluation import AP_RESAMPLES
    from halfpixel.evaluation.model_comparison import compare as measure

    # an image that one of the two could not use is left out for both
    a, b = (one.on(dataset, found) for one, found in zip(contenders, ran, strict=True))
    comparison = measure(dataset, a, b, slice_by=slice_by, ap_resamples=AP_RESAMPLES)
    for one, total in zip(contenders, (comparison.overall.a, comparison.overall.b), strict=True):
        half = total.quality[0]  # at IoU .5
        if one.predictor is None and (doubt := few_overlap(half.tp, half.tp + half.fp, half.tp + half.fn)):
            warn(f"{one.name}: {doubt}")
    for key, one, side in zip("ab", contenders, (a, b), strict=True):
        if one.predictor is not None:
            write_predictions(out / key, dataset, list(side.predictions))
    failed = [fault for walk in walks for fault in walk.failures_json()]
    _report(comparison, dataset, (a, b), pictures, out, len(failed))
    if as_json:
        say_json({"failed": failed, **comparison.to_json()})
    else:
        print_comparison(comparison)
        say(f"The page: {out / 'index.html'}   All numbers and definitions: {out / 'report.json'}")
    for walk, one in zip(walks, contenders, strict=True):
        walk.warn(one.limit)
    return max(walk.exit_code for walk in walks)


@dataclass(frozen=True, eq=False)
class _Contender:
    """A model that is to run, or the predictions of a file for every image."""

    name: str
    predictor: Predictor | None
    predictions: Mapping[Sample, Instances]
    threshold: float
    limit: int

    def run(self, walk: Walk, dataset: Dataset) -> tuple[Dataset, Mapping[Sample, Instances]]:
        """The images that could be used, and what was found on each."""
        if self.predictor is None:
            return dataset, self.predictions
        dataset, found = predict_dataset(walk, self.predictor, dataset, self.threshold, self.limit)
        return dataset, dict(zip(dataset.samples, found, strict=True))

    def on(self, dataset: Dataset, found: Mapping[Sample, Instances]) -> Candidate:
        """What takes part in the comparison."""
        from halfpixel.evaluation.per_image import Candidate

        return Candidate(self.name, [found[sample] for sample in dataset.samples], self.threshold, self.limit)


def _open(source: str | Path, dataset: Dataset, threshold: float | None, limit: int | None) -> _Contender:
    """Open a model (a text), or read a file."""
    if isinstance(source, Path):
        found = dict(zip(dataset.samples, read_predictions(source, dataset), strict=True))
        threshold = FILE_THRESHOLD if threshold is None else threshold
        return _Contender(str(source), None, found, threshold, FILE_LIMIT if limit is None else limit)
    predictor = open_model(source)
    check_classes(dataset, predictor.class_names, f"the model {source}")
    threshold = predictor.info.score_threshold if threshold is None else threshold
    limit = predictor.info.detection_limit if limit is None else limit
    return _Contender(describe(source), predictor, {}, threshold, limit)


def _thresholds(given: Sequence[float]) -> list[float | None]:
    """That of A and that of B; None for the model's own."""
    if len(given) > 2:
        raise ArgumentError(f"--threshold: expected one for both or two, got {len(given)}")
    return list(given) if len(given) == 2 else [given[0] if given else None] * 2


def _report(
    comparison: Comparison, dataset: Dataset, both: tuple[Candidate, Candidate], pictures: int, out: Path, n_failed: int
) -> None:
    from halfpixel.report.comparison import write_comparison
    from halfpixel.report.differences import draw_differences

    about = {"left out": f"{plural(n_failed, 'image')} that could not be used"} if n_failed else {}
    drawn = draw_differences(dataset, *both, comparison, at_most=pictures)
    write_comparison(comparison, out, about=about, pictures=drawn)


def print_comparison(comparison: Comparison) -> None:
    """The main numbers, side by side."""
    from halfpixel.evaluation.model_comparison import MEASURES

    overall = comparison.overall
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        say(f"{name}: {side.name}, score threshold {side.threshold:g}")
    say(f"On {comparison.data}: {plural(overall.n_images, 'image')}, {plural(overall.n_objects, 'annotated object')}.")
    say()
    numbers = ("A", "B", "A - B", "A / B")
    table = plain_table("with 95% intervals", *numbers, "better", right=numbers)
    for key in SHOWN:
        measure, one = MEASURES[key], overall.contrasts[key]
        if measure.group == "mistakes" and not one.a and not one.b:
            continue
        label = f"{measure.label} per 100 objects" if measure.group == "mistakes" else measure.label
        digits = measure.digits
        difference = f"{number(one.difference, digits, '+')}{between(one.difference_interval, digits)}"
        ratio = f"{number(one.ratio, 2)}{between(one.ratio_interval, 2)}" if measure.with_ratio else ""
        sign = "+" if key == "count_bias" else ""
        a, b = (number(value, digits, sign) for value in (one.a, one.b))
        table.add_row(label, a, b, difference, ratio, one.better or "")
    show(table)
    say("  count MAE: mean over images of |found - annotated|; bias: mean of found - annotated, above 0 is too many")
    say("  quality: TP / (TP + FP + FN) of masks paired one to one, summed over images (not COCO AP)")
    say("  merge: objects that one prediction covers together; they are not counted as misses")
    say("  better: where the interval leaves no doubt; the page says how, and shows where the two differ")
    say()
    if comparison.slices:
        _print_slices(comparison)


def _print_slices(comparison: Comparison) -> None:
    numbers = ("images", "objects", "count MAE A", "B", "A / B", "merges A", "merges B")
    table = plain_table(comparison.slice_by or "", *numbers, right=numbers)
    for name, part in comparison.slices.items():
        mae = part.contrasts["count_mae"]
        ratio = f"{number(mae.ratio, 2)}{between(mae.ratio_interval, 2)}"
        merges = (f"{one.events['merge']:,}" for one in (part.a, part.b))
        cells = (f"{part.n_images:,}", f"{part.n_objects:,}", number(mae.a, 2), number(mae.b, 2), ratio)
        table.add_row(name, *cells, *merges)
    show(table)
    say()
