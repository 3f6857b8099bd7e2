"""`halfpixel bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, in_options, number, plain_table, say, say_json, say_sizes, show
from halfpixel.cli.option_groups import Sizes
from halfpixel.jobs.model_options import describe_model
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import plural
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.report.speed import Configuration, LeftOut, Measured
    from halfpixel.report.speed_run import BenchResult


def bench(
    *paths: Annotated[str, Parameter("PATH")],
    model: str = DEFAULT_MODEL,
    calibrate: list[str] | None = None,
    at_most: int = 3,
    rounds: int = 3,
    as_json: Annotated[bool, Parameter("--json")] = False,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Find out which backend and precision is the fastest on this machine, and whether the objects stay the same.

    Every configuration that is installed finds the objects of the same images, in interleaved runs. Each is compared
    with torch in fp32, the exact one. The last line says which options to give to predict, count and evaluate.

    Args:
        paths: Image files, folders of images, or globs in quotes. Default: one example.
        model: A named model (see `halfpixel models`) or a model file.
        calibrate: Images (files, folders, globs) that int8 is calibrated on; others than those that are timed. Without
            them int8 is left out.
        at_most: Time so many of the images, evenly spread.
        rounds: How often each image is timed in each configuration, after once that does not count.
        as_json: Print JSON instead of the table.
        sizes: At which size images are looked at.
    """
    from halfpixel.report.speed_run import BenchRequest, run

    with Listener() as listener:
        result = run(BenchRequest(paths, model, calibrate or (), at_most, rounds, sizes), listener)
    code = listener.finish(result.outcome)
    if result.default is None:
        return code or 2
    if as_json:
        say_json(result.to_json())
    else:
        _print_head(result)
        say_sizes(result.outcome.looked_at)
        _print(result.measured, result.left_out, result.default)
        say(advice(result.measured, result.fastest, result.default, result.example))
    return code


def _print_head(result: BenchResult) -> None:
    """What was timed, and where."""
    request, images = result.request, result.images
    about = f"an example ({next(iter(images))})" if result.example else plural(len(images), "image")
    rounds = f"{plural(request.rounds, 'round')} after a first one"
    say(f"Model {describe_model(request.model)}, {about} of {_sizes(images)} pixels, {rounds}.")
    say(", ".join(f"{name} {what}" for name, what in result.machine.items()))
    say()


def _sizes(images: Mapping[str, tuple[int, int]]) -> str:
    """Width and height of the images, of all where they differ only the smallest and the largest."""
    sizes = sorted({(width, height) for height, width in images.values()}, key=lambda size: size[0] * size[1])
    ends = sizes if len(sizes) == 1 else (sizes[0], sizes[-1])
    return " to ".join(f"{width:,} x {height:,}" for width, height in ends)


def _print(measured: Sequence[Measured], left_out: Sequence[LeftOut], default: Configuration) -> None:
    from halfpixel.report.speed import EXACT, SAME_IOU

    numbers = ("s an image", "times as fast", "objects", "same objects", "counts off by")
    table = plain_table("backend", "precision", *numbers, "", right=numbers)
    for one in measured:
        speed = one.times_as_fast
        exact = one.configuration == EXACT
        notes = ["exact"] * exact + ["the default"] * (one.configuration == default)
        table.add_row(
            one.configuration.backend,
            one.configuration.precision + (" --fast" if one.configuration.fast else ""),
            _seconds(one.seconds_an_image),
            "1" if exact else f"{speed.median:.2f} ({speed.low:.2f} to {speed.high:.2f})",
            f"{one.objects:,}",
            "" if exact else _share(one.same_objects),
            "" if exact else number(float(sum(abs(off) for off in one.count_differences)), 0),
            ", ".join(notes),
        )
    show(table)
    say("  times as fast: torch fp32's seconds by this row's, same image, same round; the median and the quartiles")
    kind = measured[0].compared_by
    say(
        f"  same objects: the share of both rows' objects that have a partner with a {kind} IoU of {SAME_IOU:g} or more"
    )
    say("  counts off by: the differences of each image's count from torch fp32's, without their signs, added up")
    say()
    for left in left_out:
        say(f"Not timed: {left.configuration}: {in_options(left.reason)}")
    if left_out:
        say()


def advice(measured: Sequence[Measured], best: Measured, default: Configuration, example: bool = False) -> str:
    """One sentence or two: what to use, and what would be faster but finds other objects."""
    from halfpixel.report.speed import EXACT

    exact = next(one for one in measured if one.configuration == EXACT)
    if not any(one.objects for one in measured):
        return "Nothing was found on these images, so it is not known what agrees: give images with objects."
    is_default = best.configuration == default
    asked = f"no option, the default ({default})" if is_default else best.configuration.options
    if best.configuration == EXACT:
        text = f"Fastest here with the same objects: {asked}, the exact configuration."
    else:
        took = f"{_seconds(best.seconds_an_image)} s an image instead of {_seconds(exact.seconds_an_image)}"
        text = (
            f"Fastest here with the same objects ({_share(best.same_objects)}): {asked}, "
            f"{best.times_as_fast.median:.1f} times as fast as torch fp32 ({took})."
        )
    faster = max(measured, key=lambda one: one.times_as_fast.median)
    if not faster.agrees:
        share, off = _share(faster.same_objects), sum(abs(one) for one in faster.count_differences)
        text += f" {faster.configuration} is faster still, but {share} of its objects are the same"
        text += f" and counts are off by {off:,}."
    return text + (" On your own images it may be otherwise: give some." if example else "")


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
