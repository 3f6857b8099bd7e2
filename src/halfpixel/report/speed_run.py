"""Finds out which backend and precision is the fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.jobs.events import Progress, Tell, ignore
from halfpixel.jobs.model_options import check_models, open_model
from halfpixel.jobs.runner import Note, Outcome, Runner
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.images.contrast import Rgb8
    from halfpixel.engine.predictor import Predictor
    from halfpixel.report.speed import Configuration, LeftOut, Measured


@dataclass(frozen=True)
class BenchRequest:
    """What to time.

    Attributes:
        paths: image files, folders or globs; none for one example.
        model: a named model or a model file.
        calibrate: images that int8 is calibrated on; none for no int8.
        at_most: time so many of the images, evenly spread.
        rounds: how often each image is timed, after once that does not count.
        sizes: at which size images are looked at.
    """

    paths: Sequence[str] = ()
    model: str = DEFAULT_MODEL
    calibrate: Sequence[str] = ()
    at_most: int = 3
    rounds: int = 3
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        if self.at_most < 1 or self.rounds < 1:
            raise ArgumentError(f"`at_most` and `rounds` must be at least 1, got {self.at_most} and {self.rounds}")
        if self.sizes.are_given and not self.paths:
            raise ArgumentError("`diameter` and `scale` are for images of yours: give some")


@dataclass(frozen=True)
class BenchResult:
    """What came of it.

    Attributes:
        outcome: images, failures and warnings.
        request: what was timed.
        machine: what the times are of.
        images: sizes in pixels, by their names.
        example: the image is an example.
        measured: the configurations that were timed; none where no image could be used.
        left_out: the configurations that were not.
        default: what runs where nothing is asked for.
    """

    outcome: Outcome
    request: BenchRequest
    machine: Mapping[str, str]
    images: Mapping[str, tuple[int, int]]
    example: bool
    measured: Sequence[Measured]
    left_out: Sequence[LeftOut]
    default: Configuration | None

    @property
    def fastest(self) -> Measured:
        """Of those that agree with the exact configuration."""
        from halfpixel.report.speed import fastest

        return fastest(self.measured)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.default is not None, "without images there is nothing to tell"
        configurations = [one.to_json() for one in self.measured]
        return {
            "model": self.request.model,
            "machine": dict(self.machine),
            "example": self.example,
            "rounds": self.request.rounds,
            "images": [{"image": name, "size_hw": size_hw} for name, size_hw in self.images.items()],
            "configurations": configurations,
            "ways": configurations,  # the old name, for one version
            "left_out": [{**one.configuration._asdict(), "reason": one.reason} for one in self.left_out],
            "fastest": self.fastest.configuration._asdict(),
            "default": self.default._asdict(),
            **self.outcome.to_json(),
        }


def run(request: BenchRequest, tell: Tell = ignore) -> BenchResult:
    """Time every configuration that is installed on the same images, and compare what they find.

    Raises:
        ArgumentError: numbers below 1, or an exported file, which runs in one configuration only.
    """
    check_models(request.model)
    runner = Runner(tell, sizes=request.sizes)
    shown = _read(runner, request.paths, request.at_most)
    calibration = runner.find(request.calibrate)
    if (request.paths and not shown) or (request.calibrate and not calibration):
        return BenchResult(runner.outcome(), request, {}, {}, False, (), (), None)
    from halfpixel.report.machine import describe_machine
    from halfpixel.report.speed import Configuration, all_configurations, example_image

    predictor = open_model(request.model, tell, request.sizes).without_size_finder()
    configs = all_configurations(predictor)
    runner.looks_with(predictor)
    for name, one in shown.items():
        own = predictor if one.diameter_px is None else predictor.for_diameter(one.diameter_px)
        runner.notes[name] = Note(scale=request.sizes.scale or own.info.input.scale)
    example = not shown
    if example:
        name, pixels = example_image(predictor.info.input)
        shown = {name: Shown(pixels)}
    if request.sizes.scale is not None:
        predictor = predictor.at_scale(request.sizes.scale)
        configs = tuple(config for config in configs if not config.fast)  # it is another scale
    machine = describe_machine(predictor.device)
    measured, left_out = _time(predictor, configs, list(shown.values()), calibration, request.rounds, tell)
    sizes_hw = {name: (one.shape[0], one.shape[1]) for name, (one, _) in shown.items()}
    default = Configuration(predictor.backend.name, predictor.backend.precision)
    return BenchResult(runner.outcome(), request, machine, sizes_hw, example, measured, left_out, default)


class Shown(NamedTuple):
    """What is timed: the pixels of an image, and the diameter of its objects in them, where one was given."""

    pixels: Rgb8
    diameter_px: float | None = None


def _read(runner: Runner, paths: Sequence[str], at_most: int) -> dict[str, Shown]:
    """So many images that can be used, evenly spread over all, by their path."""
    from halfpixel.data.images.picture import read_pictures

    files = runner.find(paths)
    n = min(at_most, len(files))
    images = {}
    for path in [files[k * len(files) // n] for k in range(n)]:
        try:
            picture = next(read_pictures(path))
            images[str(path)] = Shown(picture.rgb, runner.sizes.diameter_px(picture))
            runner.notes[str(path)] = Note()
        except ImageError as error:
            runner.fail(path, error)
    return images


def _time(
    predictor: Predictor,
    configs: Sequence[Configuration],
    images: Sequence[Shown],
    calibration: Sequence[Path],
    rounds: int,
    tell: Tell,
) -> tuple[list[Measured], list[LeftOut]]:
    """All configurations that there are."""
    from halfpixel.report.speed import measure, open_configurations

    with TemporaryDirectory(prefix="halfpixel-bench-") as folder:
        predictors, left_out = open_configurations(
            predictor, configs, calibration, Path(folder), lambda config: tell(Progress("open", 0, None, str(config)))
        )
        total = len(predictors) * len(images) * (rounds + 1)
        done = 0

        def count(config: Configuration) -> None:
            nonlocal done
            done += 1
            tell(Progress("time", done, total, str(config)))

        pixels, diameters_px = [one.pixels for one in images], [one.diameter_px for one in images]
        return measure(predictors, pixels, rounds, count, diameters_px), left_out
