"""Finds out which backend and precision is the fastest on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.jobs.events import Progress, Tell, ignore
from halfpixel.jobs.model_options import check_models, open_model
from halfpixel.jobs.runner import Note, Outcome, Runner
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
    """

    paths: Sequence[str] = ()
    model: str = DEFAULT_MODEL
    calibrate: Sequence[str] = ()
    at_most: int = 3
    rounds: int = 3

    def __post_init__(self) -> None:
        if self.at_most < 1 or self.rounds < 1:
            raise ArgumentError(f"`at_most` and `rounds` must be at least 1, got {self.at_most} and {self.rounds}")


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
            "failed": self.outcome.failures_json(),
        }


def run(request: BenchRequest, tell: Tell = ignore) -> BenchResult:
    """Time every configuration that is installed on the same images, and compare what they find.

    Raises:
        ArgumentError: numbers below 1, or an exported file, which runs in one configuration only.
    """
    check_models(request.model)
    runner = Runner(tell)
    images = _read(runner, request.paths, request.at_most)
    calibration = runner.find(request.calibrate)
    if (request.paths and not images) or (request.calibrate and not calibration):
        return BenchResult(runner.outcome(), request, {}, {}, False, (), (), None)
    from halfpixel.report.machine import describe_machine
    from halfpixel.report.speed import Configuration, all_configurations, example_image

    predictor = open_model(request.model, tell)
    configs = all_configurations(predictor)
    example = not images
    if example:
        images = dict([example_image(predictor.info.input)])
    machine = describe_machine(predictor.device)
    measured, left_out = _time(predictor, configs, images, calibration, request.rounds, tell)
    sizes_hw = {name: (one.shape[0], one.shape[1]) for name, one in images.items()}
    default = Configuration(predictor.backend.name, predictor.backend.precision)
    return BenchResult(runner.outcome(), request, machine, sizes_hw, example, measured, left_out, default)


def _read(runner: Runner, paths: Sequence[str], at_most: int) -> dict[str, Rgb8]:
    """The pixels of so many images that can be used, evenly spread over all, by their path."""
    from halfpixel.data.images.rgb8 import read_image

    files = runner.find(paths)
    n = min(at_most, len(files))
    images = {}
    for path in [files[k * len(files) // n] for k in range(n)]:
        try:
            images[str(path)] = read_image(path)
            runner.notes[str(path)] = Note()
        except ImageError as error:
            runner.fail(path, error)
    return images


def _time(
    predictor: Predictor,
    configs: Sequence[Configuration],
    images: Mapping[str, Rgb8],
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

        return measure(predictors, list(images.values()), rounds, count), left_out
