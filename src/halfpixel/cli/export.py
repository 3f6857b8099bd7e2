"""`halfpixel export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from halfpixel.cli.console import Listener, say
from halfpixel.jobs.wording import plural
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.engine.export.exporter import Exported

MOST_IMAGES = 300


def export(
    model: str = DEFAULT_MODEL,
    /,
    *,
    to: Literal["onnx", "openvino"],
    out: Path,
    int8: bool = False,
    images: list[str] | None = None,
    most_images: int = MOST_IMAGES,
    seed: int = 0,
    overwrite: bool = False,
) -> int:
    """Write a model as a file that runs without torch, in ONNX Runtime or OpenVINO.

    The file holds the whole network, for images of any size, and says how to prepare them. `--model FILE` takes it
    wherever a model is taken, except for training and exporting. Before it is kept, it runs on an image beside torch,
    and what both find is compared. Exporting takes up to a minute, int8 longer.

    Args:
        model: A named model (see `halfpixel models`) or a model file.
        to: onnx is one .onnx file; openvino is an .xml file and a .bin file beside it.
        out: The file to write.
        int8: Compute in whole numbers of 8 bits: faster, and a little less exact. For openvino only.
        images: With --int8: images like those that the model is for (files, folders, globs in quotes), which need no
            annotations.
        most_images: With --int8: use at most so many of them.
        seed: Chooses them.
        overwrite: Replace an earlier file.
    """
    from halfpixel.jobs.export import export as run

    with Listener() as listener:
        result = run(
            model, to=to, out=out, int8=int8, images=images or (), most_images=most_images, seed=seed,
            overwrite=overwrite, tell=listener,
        )  # fmt: skip
    code = listener.finish(result.outcome)
    if result.written is None:
        return code or 2
    _report(result.written)
    return code


def _report(written: Exported) -> None:
    how = f", int8, calibrated on {plural(written.calibration_images, 'image')}" if written.calibration_images else ""
    say(f"Written {written.path}, {written.size_bytes / 1e6:.1f} MB{how}.")
    if written.compared:
        say(
            f"On one image it agrees with torch on {written.agreement:.1%} of {plural(written.compared, 'object')} "
            f"(boxes that overlap by more than half, counted from both sides)."
        )
    else:
        say("On one image neither it nor torch finds anything.")
