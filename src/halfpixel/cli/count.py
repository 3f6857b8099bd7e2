"""`halfpixel count`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halfpixel.cli.results import csv_bytes
from halfpixel.cli.run import (
    Walk,
    check_limits,
    describe,
    open_model,
    plain_table,
    plural,
    say,
    say_json,
    show,
    write_with_folder,
)
from halfpixel.errors import ArgumentError
from halfpixel.zoo.names import DEFAULT_MODEL

MANY_CLASSES = 10
"""With more classes than this, those that were found nowhere are left out of tables."""

Counts = dict[Path, dict[str, int]]


def count(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    model: str = DEFAULT_MODEL,
    threshold: float | None = None,
    limit: int | None = None,
    csv: Path | None = None,
    as_json: Annotated[bool, Parameter("--json")] = False,
) -> int:
    """Count the objects in images: a table of image, class and count, and a total.

    Args:
        paths: Image files, folders of images, or globs in quotes (** stands for folders of any depth).
        model: A named model (see `halfpixel models`) or a model file.
        threshold: Count objects that score at least this, 0 to 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        csv: Write the table to this file as well; an existing file is replaced.
        as_json: Print JSON instead of the table.
    """
    check_limits(threshold, limit)
    if csv is not None and csv.is_dir():
        raise ArgumentError(f"--csv {csv}: this is a folder, not a file")
    walk = Walk()
    images = walk.find(paths)
    if not images:
        return walk.exit_code
    predictor = open_model(model)
    threshold = predictor.info.score_threshold if threshold is None else threshold
    limit = predictor.info.detection_limit if limit is None else limit
    counts = {path: objects.counts() for path, _, objects in walk.predict(predictor, images, threshold, limit)}
    if not counts:
        return walk.exit_code
    total: Counter[str] = Counter(dict.fromkeys(predictor.class_names, 0))
    for one in counts.values():
        total.update(one)
    shown = [name for name in predictor.class_names if total[name] or len(predictor.class_names) <= MANY_CLASSES]
    if csv is not None:
        rows = [
            (path, name, one[name], f"{threshold:g}", "yes" if path in walk.saturated else "no")
            for path, one in counts.items()
            for name in shown
        ]
        write_with_folder(csv, csv_bytes(("image", "class", "count", "score_threshold", "limit_reached"), rows))
    if as_json:
        _say_json(counts, total, walk, {"model": model, "threshold": threshold, "limit": limit})
    else:
        _show_table(counts, total, shown)
        found = f"{plural(total.total(), 'object')} on {plural(len(counts), 'image')}"
        say(f"{found}, scoring at least {threshold:g}. Model {describe(model)}.")
    walk.warn(limit)
    return walk.exit_code


def _say_json(counts: Counts, total: Counter[str], walk: Walk, how: dict[str, object]) -> None:
    images = [
        {"image": str(path), "counts": one, "limit_reached": path in walk.saturated} for path, one in counts.items()
    ]
    say_json({**how, "images": images, "total": dict(total), "failed": walk.failures_json()})


def _show_table(counts: Counts, total: Counter[str], shown: Sequence[str]) -> None:
    table = plain_table("image", "class", "count", right=("count",))
    few = len(total) <= MANY_CLASSES
    for path, one in counts.items():
        rows = [(name, one[name]) for name in shown if one[name] or few] or [("nothing", 0)]
        for k, (name, number) in enumerate(rows):
            table.add_row("" if k else str(path), name, f"{number:,}")
    if len(counts) > 1:
        table.add_section()
        for k, name in enumerate(shown):
            table.add_row("" if k else "total", name, f"{total[name]:,}")
    show(table)
