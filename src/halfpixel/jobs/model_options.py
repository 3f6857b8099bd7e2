"""Which model looks, and how it is run: the options that jobs share.

Light, as the command line makes its help of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from halfpixel.errors import ArgumentError
from halfpixel.jobs.events import Progress, Tell, ignore
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions, scale_range
from halfpixel.zoo.names import DEFAULT_MODEL, check_model

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor
    from halfpixel.structures.calibration import Calibration

BackendOption = Literal["torch", "onnx", "openvino"]
PrecisionOption = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class SpeedOptions:
    """What a model runs on, and how fast.

    Attributes:
        backend: What runs the network; onnx and openvino have to be installed. Default: torch, and for a file that
            `halfpixel export` wrote what it was written for.
        precision: fp32 is exact; bf16 takes half the time where the processor has it. Default: the faster one here.
        fast: Look at images at two thirds of the size: about 1.7 times as fast, and a little worse on small objects.
    """

    backend: BackendOption | None = None
    precision: PrecisionOption | None = None
    fast: bool = False

    def apply(self, predictor: Predictor, tell: Tell = ignore) -> Predictor:
        """The same model, run as wanted.

        Raises:
            ArgumentError: the backend does not run networks in this precision.
            MissingDependencyError: the backend is not installed.
        """
        if self.backend is not None or self.precision is not None:
            from halfpixel.engine.load import open_backend

            name = self.backend or predictor.backend.name
            tell(Progress("prepare", 0, None, name))
            predictor = predictor.on(open_backend(predictor, name, self.precision))
        return predictor.fast() if self.fast else predictor

    def for_resuming(self) -> dict[str, object]:
        """What a resumed run must have in common with the one before."""
        return asdict(self)


AS_USUAL = SpeedOptions()


@dataclass(frozen=True)
class Computed:
    """What ran the network.

    Attributes:
        backend: of the network.
        precision: of its arithmetic.
        fast: images were looked at at two thirds of the size.
    """

    backend: str
    precision: str
    fast: bool

    @classmethod
    def by(cls, predictor: Predictor, speed: SpeedOptions) -> Computed:
        """What these options came to."""
        return cls(predictor.backend.name, predictor.backend.precision, speed.fast)

    def __str__(self) -> str:
        return f"with {self.backend} in {self.precision}{' at two thirds of the size' if self.fast else ''}"


def check_models(model: str, first_pass: str | None = None) -> None:
    """Refuse what stands for no model, before anything is imported that takes time.

    Raises:
        ModelFileError: neither a name nor a file.
    """
    for name in (model,) if first_pass is None else (model, first_pass):
        check_model(name)


def open_model(model: str, tell: Tell = ignore, sizes: SizeOptions = SIZES_FOUND) -> Predictor:
    """Load a named model or a file; it is downloaded if need be.

    Raises:
        ArgumentError: it cannot look at images at other sizes, and is to.
    """
    from halfpixel.engine.load import load

    predictor = load(model, progress=download_progress(model, tell))
    sizes.check(predictor, model)
    return predictor


def download_progress(model: str, tell: Tell) -> Callable[[int, int | None], None]:
    """What hears of the bytes of a model's download, and tells of them."""
    return lambda done, total: tell(Progress("download", done, total, model))


def open_with_prefilter(
    model: str,
    first_pass: str | None,
    speed: SpeedOptions = AS_USUAL,
    tell: Tell = ignore,
    sizes: SizeOptions = SIZES_FOUND,
) -> Predictor:
    """A model that looks only where another one, if there is one, sees something in the reduced image.

    Raises:
        ArgumentError: the two do not go together, or the model cannot be run as wanted.
        MissingDependencyError: what is to run it is not installed.
    """
    if speed.fast and sizes.scale is not None:
        raise ArgumentError("`fast` and `scale`: both say at which size to look, give one of the two")
    predictor = speed.apply(open_model(model, tell, sizes), tell)
    if first_pass is None:
        return predictor
    try:
        return predictor.with_prefilter(open_model(first_pass, tell))
    except ArgumentError as error:
        raise ArgumentError(f"`first_pass` {first_pass}: {error}") from error


@dataclass(frozen=True)
class CalibrationInUse:
    """A model's calibration, for images that it holds for.

    Attributes:
        calibration: at the threshold that objects are listed from.
        usual_scale: the factor that the model enlarges images by, None where it brings them to one size.
    """

    calibration: Calibration
    usual_scale: float | None

    def at(self, scale: float | None) -> Calibration | None:
        """The calibration, if it holds for images enlarged by this factor."""
        return self.calibration if self.calibration.holds_at(scale, self.usual_scale) else None

    @property
    def made_at(self) -> str:
        """At which size images were looked at for it."""
        if self.calibration.scales is not None:
            return f"at {scale_range(self.calibration.scales)} times their size"
        return "at one size" if self.usual_scale is None else f"at {self.usual_scale:.3g} times their size"


def calibration_in_use(predictor: Predictor, threshold: float) -> CalibrationInUse | None:
    """The model's calibration, if it holds for this threshold."""
    calibration = predictor.info.calibration
    if calibration is None or calibration.threshold != threshold:
        return None
    return CalibrationInUse(calibration, predictor.info.input.scale)


def model_digest(model: str) -> str:
    """The SHA-256 of a model's file, which is there."""
    from halfpixel.zoo.names import locate

    with locate(model).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_pass_for_resuming(first_pass: str | None) -> dict[str, object]:
    """What a resumed run must have in common with the one before."""
    return {"first pass (SHA-256)": None if first_pass is None else model_digest(first_pass)}


def describe_model(model: str) -> str:
    """How people are told of a model."""
    return f"{model} (the default, embedded in halfpixel)" if model == DEFAULT_MODEL else model
