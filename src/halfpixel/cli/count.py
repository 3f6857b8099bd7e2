"""`halfpixel count`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, say, say_json, say_sizes, show
from halfpixel.cli.option_groups import Images, Sizes, Speed
from halfpixel.cli.savings_text import explain_savings
from halfpixel.jobs.image_options import AS_THEY_ARE
from halfpixel.jobs.model_options import AS_USUAL, describe_model
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import plural
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.jobs.count import CountResult, ImageCount


def count(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    model: str = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    density: Literal["plain", "unbiased"] | None = None,
    csv: Path | None = None,
    resume: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    images: Images = AS_THEY_ARE,
    speed: Speed = AS_USUAL,
    sizes: Sizes = SIZES_FOUND,
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
        sizes: At which size images are looked at.
    """
    from halfpixel.jobs.count import count as run

    with Listener() as listener:
        result = run(
            paths, model=model, first_pass=first_pass, threshold=threshold, limit=limit, density=density, csv=csv,
            resume=resume, images=images, speed=speed, sizes=sizes, tell=listener,
        )  # fmt: skip
    if result.images and as_json:
        say_json(result.to_json())
    elif result.images:
        _print(result)
    return listener.finish(result.outcome)


def _print(result: CountResult) -> None:
    assert result.limits is not None, "there are images"
    _show_table(result)
    sentence = f"{plural(sum(result.total.values()), 'object')} on {result.outcome.n_images}"
    how = f"Model {describe_model(result.model)}, computed {result.computed}"
    say(f"{sentence}, scoring at least {result.limits.threshold:g}. {how}.")
    say_sizes(result.outcome.looked_at)
    _explain(result)
    if result.first_pass is not None and result.savings is not None:
        explain_savings(result.first_pass, result.savings)


def _explain(result: CountResult) -> None:
    """Say what is not obvious of the numbers."""
    if result.calibration is not None:
        if any(one.intervals and result.rows_of(one) for one in result.images):
            level = f"{result.calibration.level:.0%}"
            say(f"In brackets where the true count is, for {level} of images like those of the calibration.")
    elif result.calibrated_for is not None:
        say(f"No intervals: the model is calibrated for --threshold {result.calibrated_for:g}.")


def _show_table(result: CountResult) -> None:
    numbers = ("count",) if result.density is None else ("count", "density")
    table = plain_table("image", "class", *numbers, right=numbers)
    for one in result.images:
        rows = [(name, *_cells(result, one, name)) for name in result.rows_of(one)] or [("nothing", "0")]
        for k, row in enumerate(rows):
            table.add_row("" if k else one.image, *row)
    if len(result.images) > 1:
        table.add_section()
        for k, name in enumerate(result.shown):
            table.add_row("" if k else "total", name, f"{result.total[name]:,}")
    show(table)


def _cells(result: CountResult, one: ImageCount, name: str) -> tuple[str, ...]:
    """A row of the table: the count, with its interval, and the density."""
    numbers = one.numbers(name, result.columns)
    text = f"{one.counts[name]:,}"
    if numbers.get("low") is not None:
        text += f" ({numbers['low']:,}-{numbers['high']:,}, {numbers['level']:.0%})"
    if result.density is None:
        return (text,)
    per_mm2 = numbers["per_mm2"]
    density = f"{numbers['per_megapixel']:,.4g} per Mpx" if per_mm2 is None else f"{per_mm2:,.4g} per mm2"
    return text, density
