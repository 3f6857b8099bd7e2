"""`halfpixel predict`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halfpixel.cli.results import PLACES, Results, parse_save, refuse_to_mix, refuse_to_overwrite, remove_earlier
from halfpixel.cli.run import Walk, check_folder, check_limits, describe, open_model, plain_table, plural, say, show
from halfpixel.zoo.names import DEFAULT_MODEL


def predict(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    out: Path,
    model: str = DEFAULT_MODEL,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = "coco,overlay,table",
    overwrite: bool = False,
) -> int:
    """Find every object in images and write the objects, pictures and tables to a folder.

    Args:
        paths: Image files, folders of images, or globs in quotes (** stands for folders of any depth).
        out: The folder for the results; it is made if need be.
        model: A named model (see `halfpixel models`) or a model file.
        threshold: Leave out objects that score less, from 0 to below 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        save: What to write, separated by commas: coco (instances.json), overlay (pictures with the objects drawn in),
            labels (16-bit TIFF, each pixel its object's number; where objects overlap, that of the better score), table
            (objects.csv), cutouts (one picture with transparency for each object).
        overwrite: Replace earlier results in the folder; without this, they are kept and nothing is done.
    """
    kinds = parse_save(save)
    check_limits(threshold, limit)
    check_folder(out)
    if overwrite:
        refuse_to_mix(out, kinds)
    else:
        refuse_to_overwrite([out / PLACES[kind] for kind in kinds])
    walk = Walk()
    images = walk.find(paths)
    if not images:
        return walk.exit_code
    predictor = open_model(model)
    threshold = predictor.info.score_threshold if threshold is None else threshold
    limit = predictor.info.detection_limit if limit is None else limit
    results = Results(out, kinds, images)
    if overwrite:
        remove_earlier(out, kinds)
    totals: Counter[str] = Counter()
    for path, picture, objects in walk.predict(predictor, images, threshold, limit):
        results.add(path, picture, objects)
        totals.update(objects.counts())
    if not walk.done:
        return walk.exit_code
    places = results.finish(predictor.class_names)

    say(f"Model {describe(model)}, objects that score at least {threshold:g}, at most {limit:,} an image.")
    found = f"{plural(totals.total(), 'object')} on {plural(len(walk.done), 'image')}"
    per_class = ", ".join(f"{name} {count:,}" for name, count in totals.most_common() if count)
    say(f"{found}: {per_class}." if per_class else f"{found}.")
    table = plain_table("written", "what it is")
    for place in places:
        table.add_row(*place)
    show(table)
    walk.warn(limit)
    return walk.exit_code
