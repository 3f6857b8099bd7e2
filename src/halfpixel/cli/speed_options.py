"""What a model runs on, and how fast: the options that verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cyclopts import Group, Parameter
from rich.progress import TextColumn

from halfpixel.cli.console import progress_bar

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor

GROUP = Group("Speed (compare with: halfpixel bench)")


@Parameter(name="*", group=GROUP)
@dataclass(frozen=True)
class SpeedOptions:
    """What a model runs on, and how fast.

    Attributes:
        backend: What runs the network; onnx and openvino have to be installed. Default: torch, and for a file that
            `halfpixel export` wrote what it was written for.
        precision: fp32 is exact; bf16 takes half the time where the processor has it. Default: the faster one here.
        fast: Look at images at two thirds of the size: about 1.7 times as fast, and a little worse on small objects.
    """

    backend: Literal["torch", "onnx", "openvino"] | None = None
    precision: Literal["fp32", "bf16", "fp16", "int8"] | None = None
    fast: bool = False

    def apply(self, predictor: Predictor) -> Predictor:
        """The same model, run as wanted.

        Raises:
            ArgumentError: the backend does not run networks in this precision.
            MissingDependencyError: the backend is not installed.
        """
        if self.backend is not None or self.precision is not None:
            from halfpixel.engine.load import open_backend

            name = self.backend or predictor.backend.name
            with progress_bar(TextColumn("up to a minute, the first time")) as bar:
                bar.add_task(f"Preparing the network for {name}", total=None)
                predictor = predictor.on(open_backend(predictor, name, self.precision))
        return predictor.fast() if self.fast else predictor

    def for_resuming(self) -> dict[str, object]:
        """What a resumed run must have in common with the one before."""
        return {"--backend": self.backend, "--precision": self.precision, "--fast": self.fast}


AS_USUAL = SpeedOptions()


def describe_speed(predictor: Predictor, speed: SpeedOptions) -> str:
    """What ran the network, for the middle of a sentence."""
    smaller = " at two thirds of the size" if speed.fast else ""
    return f"computed with {predictor.backend.name} in {predictor.backend.precision}{smaller}"


def speed_json(predictor: Predictor, speed: SpeedOptions) -> dict[str, object]:
    """The twin of `describe_speed`."""
    return {"backend": predictor.backend.name, "precision": predictor.backend.precision, "fast": speed.fast}
