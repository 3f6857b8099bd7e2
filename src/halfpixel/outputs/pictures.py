"""Objects as pictures. Drawing is imported when something is drawn, as `writers` has to be light."""

from __future__ import annotations

from pathlib import Path

from halfpixel.data.images.rgb8 import png_bytes
from halfpixel.files import write_with_folder
from halfpixel.outputs.image_result import ImageResult


def write_overlay(out: Path, stem: str, result: ImageResult) -> None:
    """The objects drawn over the image; of a film also where they came from."""
    from halfpixel.viz.overlay import count_caption, draw_overlay
    from halfpixel.viz.ways import Ways

    frame, ways = result.frame, None
    if frame is not None:
        ways = Ways(frame.paths, [(line.x1, line.y1, line.x2, line.y2) for line in frame.lines])
    drawn = draw_overlay(result.picture.rgb, result.objects, caption=count_caption(result.objects), ways=ways)
    write_with_folder(out / f"{stem}.png", png_bytes(drawn))


def write_cutouts(out: Path, stem: str, result: ImageResult) -> None:
    """One picture with transparency for each object."""
    from halfpixel.viz.cutouts import cut_out

    for old in (out / stem).glob("[0-9]*.png"):  # of an interrupted run that saw another file under this name
        old.unlink()
    for number, pixels in enumerate(cut_out(result.picture.rgb, result.objects), start=1):
        write_with_folder(out / stem / f"{number:04d}.png", png_bytes(pixels))


def write_blurred(out: Path, stem: str, result: ImageResult) -> None:
    """The image with objects made unrecognisable."""
    from halfpixel.viz.blur import blurred

    write_with_folder(out / f"{stem}.png", png_bytes(blurred(result.picture.rgb, result.objects, result.blurred)))
