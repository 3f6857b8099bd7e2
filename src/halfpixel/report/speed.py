"""Which backend and precision is the fastest here, and whether the objects stay the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from skimage import data

from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.backends.base import Backend, BackendName, ComputePrecision, native_precision
from halfpixel.engine.load import open_backend
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, HalfpixelError
from halfpixel.evaluation.detection.object_matching import DetectionCounts, match_image, pool
from halfpixel.evaluation.detection.overlaps import Kind, found_boxes_only
from halfpixel.nn.network import check_weights
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances

Name = TypeVar("Name")
Image = TypeVar("Image")
Result = TypeVar("Result")

SAME_IOU = 0.9
"""Two masks of the same object overlap at least this much. A nucleus 15 pixels wide is .88 with its rim moved by half
a pixel."""
SAME_SHARE = 0.9
COUNTS_OFF = 0.02
"""Advice goes to configurations of which at least this share of objects has a partner, and whose counts differ by at
most this share of all objects, or by one."""

LEAST_GAIN = 1.05
"""A configuration that is less than so many times as fast as the exact one is not worth its options."""

FIELD_HW = (520, 696)
CELL_ROOM_PX = 2000


class Configuration(NamedTuple):
    """How a network is run; `fast` looks at images at two thirds of the size."""

    backend: BackendName
    precision: ComputePrecision
    fast: bool = False

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}{' --fast' if self.fast else ''}"

    @property
    def options(self) -> str:
        """How to ask for it on the command line."""
        fast = " --fast" if self.fast else ""
        if self.precision == "int8":
            export = f"halfpixel export MODEL --to {self.backend} --int8 --images PATH --out FILE"
            return f"--model FILE{fast} (made with `{export}`)"
        return f"--backend {self.backend} --precision {self.precision}{fast}"


EXACT = Configuration("torch", "fp32")
"""All others are compared with this one."""

ON_THE_CPU = (Configuration("onnx", "fp32"), Configuration("openvino", "fp32"), Configuration("openvino", "int8"))


class Quartiles(NamedTuple):
    """The middle of several numbers, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Quartiles:
        """The three of at least one number."""
        low, median, high = np.quantile(np.asarray(values, np.float64), (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)


@dataclass(frozen=True)
class TimedRun(Generic[Name, Result]):
    """One configuration on one image.

    Attributes:
        name: of the configuration.
        image: which, from 0.
        round: from 1; 0 is the round that is not to be counted, in which memory is found and shapes are met.
        seconds: what it took.
        result: what it gave.
    """

    name: Name
    image: int
    round: int
    seconds: float
    result: Result


def interleaved_runs(
    finders: Mapping[Name, Callable[[Image], Result]], images: Sequence[Image], rounds: int
) -> Iterator[TimedRun[Name, Result]]:
    """Run every configuration on every image, interleaved, so that whatever else the machine does slows them all.

    Who went last goes first the next time. Time passes between the runs only where the caller spends it.

    Args:
        finders: what to run, by the name of the configuration.
        images: one after the other.
        rounds: runs of each on each image, after one that is not to be counted.
    """
    for k, image in enumerate(images):
        for round in range(rounds + 1):
            for name in list(finders)[:: -1 if round % 2 else 1]:
                start = time.perf_counter()
                result = finders[name](image)
                yield TimedRun(name, k, round, time.perf_counter() - start, result)


@dataclass(frozen=True, eq=False)
class Measured:
    """What came of one configuration.

    Attributes:
        configuration: backend and precision.
        seconds: `[images, rounds]`.
        times_as_fast: the exact configuration's seconds by this one's, on the same image in the same round.
        objects: found on all images together.
        matching: how its objects fit the exact configuration's, at an IoU of SAME_IOU.
        count_differences: on each image, this configuration's count minus the exact one's.
        compared_by: what fits: the objects' masks, or boxes where they have no masks.
    """

    configuration: Configuration
    seconds: npt.NDArray[np.float64]
    times_as_fast: Quartiles
    objects: int
    matching: DetectionCounts
    count_differences: tuple[int, ...]
    compared_by: Kind = "mask"

    @property
    def seconds_an_image(self) -> float:
        """The mean over images of each one's median."""
        return float(np.median(self.seconds, axis=1).mean())

    @property
    def same_objects(self) -> float | None:
        """The share of this one's and the exact one's objects that have a partner; None where there are none."""
        return self.matching.f1

    @property
    def agrees(self) -> bool:
        """Whether the objects are, for counting and measuring, the same."""
        exact = self.matching.tp + self.matching.fn
        off = sum(abs(one) for one in self.count_differences)
        return self.same_objects is None or (self.same_objects >= SAME_SHARE and off <= max(COUNTS_OFF * exact, 1))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.configuration._asdict(),
            "seconds_an_image": self.seconds_an_image,
            "seconds": self.seconds.tolist(),
            "times_as_fast": self.times_as_fast._asdict(),
            "objects": self.objects,
            "same_objects": self.same_objects,
            "same_iou": SAME_IOU,
            "compared_by": self.compared_by,
            "matching": asdict(self.matching),
            "count_differences": list(self.count_differences),
            "agrees": self.agrees,
        }


@dataclass(frozen=True)
class LeftOut:
    """A configuration that cannot be used here, and why."""

    configuration: Configuration
    reason: str


def all_configurations(predictor: Predictor) -> tuple[Configuration, ...]:
    """Everything that may be worth a try for a model, the exact configuration first. `fast` goes with the default.

    Raises:
        ArgumentError: the model only predicts, in one configuration.
    """
    check_weights(predictor.model, "be timed in several configurations")
    native = native_precision(predictor.device)
    return tuple(
        dict.fromkeys((EXACT, Configuration("torch", native), *ON_THE_CPU, Configuration("torch", native, fast=True)))
    )


def open_configurations(
    predictor: Predictor,
    configs: Iterable[Configuration],
    calibration: Sequence[Path],
    folder: Path,
    tell: Callable[[Configuration], None] = lambda config: None,
) -> tuple[dict[Configuration, Predictor], list[LeftOut]]:
    """A predictor in every one of some configurations that there is on this machine.

    Args:
        predictor: the model.
        configs: what to try.
        calibration: image files for int8, other than those that are timed; none for no int8.
        folder: for files that the predictors need as long as they are used.
        tell: hears of each configuration before it is opened; an export may take a minute.

    Returns:
        The predictors, and what is left out.
    """
    opened, left_out = {}, []
    for config in configs:
        if reason := _obstacle(config, predictor.device, calibration):
            left_out.append(LeftOut(config, reason))
            continue
        tell(config)
        try:
            opened[config] = open_configuration(predictor, config, calibration, folder)
        except (HalfpixelError, ImportError, RuntimeError) as error:  # exporters and runtimes raise the last two
            if config == EXACT:
                raise
            left_out.append(LeftOut(config, str(error).strip().partition("\n")[0]))
    return opened, left_out


def _obstacle(config: Configuration, device: torch.device, calibration: Sequence[Path]) -> str:
    """Why a configuration is not even tried; nothing where it is."""
    if config.backend == "torch":
        return ""
    if device.type == "cuda":
        return "runs on the processor, and this machine has a GPU"
    if config.precision == "int8" and not calibration:
        return "int8 is calibrated on images like yours, give some with `calibrate`"
    return ""


def open_configuration(
    predictor: Predictor, config: Configuration, calibration: Sequence[Path], folder: Path
) -> Predictor:
    """The same predictor in another configuration. An int8 file that is in the folder already is taken.

    Raises:
        MissingDependencyError: a library is not installed.
        ArgumentError: there is no such configuration.
    """
    if config.precision == "int8":
        opened = predictor.on(_int8(predictor, calibration, folder / "int8.xml"))
    else:
        opened = predictor.on(open_backend(predictor, config.backend, config.precision))
    return opened.fast() if config.fast else opened


def _int8(predictor: Predictor, calibration: Sequence[Path], path: Path) -> Backend:
    from halfpixel.engine.backends.exported_files import open_file
    from halfpixel.engine.export.exporter import export

    if not path.exists():
        export(predictor, path, "openvino", int8_images=calibration, least_agreement=0)  # the agreement comes out below
    return open_file(path)


def measure(
    predictors: Mapping[Configuration, Predictor],
    images: Sequence[Rgb8],
    rounds: int,
    tell: Callable[[Configuration], None] = lambda config: None,
    diameters_px: Sequence[float | None] | None = None,
) -> list[Measured]:
    """Time every configuration on the same images, interleaved, from pixels to objects, and compare what they find.

    Args:
        predictors: of one model, among them one for EXACT.
        images: at least one; each is also seen once by every configuration before the clock runs.
        rounds: how often each is timed, at least 1.
        tell: hears of each configuration after each of its runs.
        diameters_px: of each image's objects, see `Predictor.for_diameter`; None as usual.
    """
    if not images or rounds < 1:
        raise ArgumentError(f"expected at least one image and one round, got {len(images)} and {rounds}")
    seconds = {config: np.zeros((len(images), rounds)) for config in predictors}
    found: dict[Configuration, list[Instances]] = {config: [] for config in predictors}
    finders = {config: partial(_find, one) for config, one in predictors.items()}
    shown = list(zip(images, diameters_px or [None] * len(images), strict=True))
    for timed in interleaved_runs(finders, shown, rounds):
        if timed.round == 0:
            found[timed.name].append(timed.result.without_probabilities())
        else:
            seconds[timed.name][timed.image, timed.round - 1] = timed.seconds
        tell(timed.name)
    return [_measured(config, seconds[config], seconds[EXACT], found[config], found[EXACT]) for config in predictors]


def _find(predictor: Predictor, shown: tuple[Rgb8, float | None]) -> Instances:
    pixels, diameter_px = shown
    return (predictor if diameter_px is None else predictor.for_diameter(diameter_px)).predict(pixels)


def _measured(
    config: Configuration,
    seconds: npt.NDArray[np.float64],
    exact_seconds: npt.NDArray[np.float64],
    found: Sequence[Instances],
    exact: Sequence[Instances],
) -> Measured:
    kind: Kind = "box" if found_boxes_only(exact) or found_boxes_only(found) else "mask"
    matches = [match_image(a, b, ious=(SAME_IOU,), kind=kind)[0] for a, b in zip(exact, found, strict=True)]
    return Measured(
        configuration=config,
        seconds=seconds,
        times_as_fast=Quartiles.of(exact_seconds / seconds),
        objects=sum(len(one) for one in found),
        matching=pool(SAME_IOU, (match.counts for match in matches)),
        count_differences=tuple(len(b) - len(a) for a, b in zip(exact, found, strict=True)),
        compared_by=kind,
    )


def fastest(measured: Sequence[Measured]) -> Measured:
    """The fastest of those that agree with the exact one; the exact one where the others gain next to nothing."""
    exact = next(one for one in measured if one.configuration == EXACT)
    gaining = [one for one in measured if one.agrees and one.times_as_fast.median >= LEAST_GAIN]
    return max(gaining, key=lambda one: one.times_as_fast.median, default=exact)


def example_image(rules: InputRules) -> tuple[str, Rgb8]:
    """What a picture shows, and its pixels, for machines that have none of the user's.

    Drawn cells for a network that was trained at one scale, a photograph of everyday things for others.
    """
    if rules.scale is None:
        return "a photograph of a cup of coffee", np.asarray(data.coffee())
    reduced = min(1.0, rules.longest_side / (rules.scale * max(FIELD_HW)))  # one tile, as most images are
    height, width = (int(side * reduced) for side in FIELD_HW)
    return "drawn cells", touching_cells((height, width), height * width // CELL_ROOM_PX).picture
