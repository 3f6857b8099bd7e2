"""Writes a model as a file that runs without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from halfpixel.errors import ArgumentError
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import check_models, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.runner import Outcome, Runner
from halfpixel.jobs.source import as_patterns
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.engine.export.exporter import Exported

MOST_IMAGES = 300


@dataclass(frozen=True)
class ExportRequest:
    """Which model to write, and how; see `export`."""

    model: str
    to: Literal["onnx", "openvino"]
    out: Path
    int8: bool = False
    images: Sequence[str] = ()
    most_images: int = MOST_IMAGES
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.int8 and self.to != "openvino":
            raise ArgumentError("`int8` is for `to` openvino only")
        if self.int8 and not self.images:
            raise ArgumentError("`int8` needs `images`: images like those that the model is for, to calibrate on")
        if self.images and not self.int8:
            raise ArgumentError("`images` is for `int8`, to calibrate on")
        if self.most_images < 1:
            raise ArgumentError(f"`most_images` must be at least 1, got {self.most_images}")


@dataclass(frozen=True)
class ExportResult:
    """What came of it.

    Attributes:
        outcome: failures among the images for int8.
        written: the file; None where int8 was asked for and no image could be used.
    """

    outcome: Outcome
    written: Exported | None


def export(
    model: str | Path = DEFAULT_MODEL,
    *,
    to: Literal["onnx", "openvino"],
    out: str | Path,
    int8: bool = False,
    images: str | Path | Sequence[str | Path] = (),
    most_images: int = MOST_IMAGES,
    seed: int = 0,
    overwrite: bool = False,
    tell: Tell = ignore,
) -> ExportResult:
    """Write a model as a file that runs without torch, in ONNX Runtime or OpenVINO: `halfpixel export`.

    Before it is kept, it runs on an image beside torch, and what both find is compared.

    Args:
        model: a named model or a model file.
        to: `onnx` is one .onnx file; `openvino` is an .xml file and a .bin file beside it.
        out: the file to write.
        int8: compute in whole numbers of 8 bits: faster, and a little less exact. For `openvino` only.
        images: with `int8`: images like those that the model is for (files, folders, globs), without annotations.
        most_images: with `int8`: use at most so many of them.
        seed: chooses them.
        overwrite: replace an earlier file.
        tell: hears of images that cannot be used.

    Raises:
        ArgumentError: options that contradict each other, or an earlier file.
        MissingDependencyError: a library for exporting is not installed (the extra `export`).
    """
    return run(ExportRequest(str(model), to, Path(out), int8, as_patterns(images), most_images, seed, overwrite), tell)


def run(request: ExportRequest, tell: Tell = ignore) -> ExportResult:
    """Write what was requested; see `export`."""
    out = request.out
    check_folder(out.parent, f"`out` {out}")
    if not request.overwrite:
        refuse_to_overwrite([out, out.with_suffix(".bin")] if request.to == "openvino" else [out])
    check_models(request.model)
    runner = Runner(tell)
    files = runner.find(request.images)
    if request.int8 and not files:
        return ExportResult(runner.outcome(), None)
    from halfpixel.engine.export import exporter

    predictor = open_model(request.model, tell)
    out.parent.mkdir(parents=True, exist_ok=True)
    calibration = files if request.int8 else None
    written = exporter.export(predictor, out, request.to, calibration, request.most_images, request.seed)
    return ExportResult(runner.outcome(), written)
