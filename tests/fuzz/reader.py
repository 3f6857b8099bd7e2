"""Reads one file after another in a process of its own, as a user's command would, and says what came of each.

Started by `fuzz.py`. A line of stdin is `KIND PATH`; the line of stdout that answers it is a JSON object.
"""

from __future__ import annotations

import json
import resource
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from halfpixel.data.checks.dataset_check import check_dataset
from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.images.picture import Reading, read_pictures
from halfpixel.data.images.raster.opening import open_raster
from halfpixel.data.images.rgb8 import count_frames, read_image
from halfpixel.engine.load import load
from halfpixel.errors import HalfpixelError

MOST_BYTES = 2 * 1024**3
"""What one file may take beyond what the process has with nothing read."""

PLANES = 3


def read_an_image(path: Path) -> None:
    """All ways to read it; what one of them refuses the next may take."""
    refused: list[HalfpixelError] = []
    for read in (read_image, count_frames, read_planes, read_windows):
        try:
            read(path)
        except HalfpixelError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def read_planes(path: Path) -> None:
    """The first ones."""
    for k, picture in enumerate(read_pictures(path, Reading(planes="all"))):
        assert picture.rgb.dtype == "uint8"
        assert picture.rgb.ndim == picture.channels.ndim == 3
        if k + 1 == PLANES:
            break


def read_windows(path: Path) -> None:
    """At every level, inside and over an edge."""
    with open_raster(path) as raster:
        assert len(raster.fingerprint) == 64
        for level in range(len(raster.levels)):
            for window in ((1, 1, 9, 7), (-3, -2, 40, 30)):
                assert raster.read(window, level).dtype == raster.dtype


def read_annotations(path: Path) -> None:
    """With all that is looked at before training."""
    check_dataset(read_dataset(path))


def read_a_model(path: Path) -> None:
    """And what its description makes of an image."""
    predictor = load(path)
    predictor.predict(IMAGE)


IMAGE = torch.zeros(48, 40, 3, dtype=torch.uint8).numpy()
READERS: dict[str, Callable[[Path], None]] = {
    "image": read_an_image,
    "annotations": read_annotations,
    "model": read_a_model,
}


def main() -> None:
    """Until stdin ends."""
    torch.set_num_threads(1)
    size, _ = resource.getrlimit(resource.RLIMIT_AS)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MOST_BYTES, size))
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever prints while it reads does not answer
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        kind, path = json.loads(line)
        answer = {"error": "", "where": "", "text": ""}
        try:
            READERS[kind](Path(path))
        except HalfpixelError as error:
            answer |= {"error": type(error).__name__, "text": str(error)}
        except BaseException as error:
            where = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
                for frame in traceback.extract_tb(error.__traceback__)
            ]
            answer |= {
                "error": f"foreign {type(error).__name__}",
                "where": " > ".join(where[1:]),
                "text": str(error)[:300],
            }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
