"""How fast windows of a slide are read, against other readers of the same file.

All windows of one level, side by side, in an order of their own; what each reader gives is compared with what
`tifffile.imread` gives of the whole level, which must fit the memory here. That decodes all of a level with several
threads, whatever of it is wanted; the others decode what a window touches. `aszarr` needs zarr, `OpenSlide` the extra
`[slides]`; what is not installed is left out. Without a file, a slide of drawn cells is made: JPEG tiles of 256 pixels
and levels of 4 and 16.

Ratios are medians of pairs that were measured one after the other, and the least and largest of them.

    python benchmarks/slides.py
    python benchmarks/slides.py slide.svs --window 512 --threads 2 --json slides.json
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import halfpixel
from halfpixel.data.images.raster.raster import Raster, Reader
from halfpixel.data.images.raster.windows import Window
from halfpixel.data.synthetic import touching_cells
from halfpixel.files import write_whole
from halfpixel.report.machine import describe_machine

Row = dict[str, Any]
Pixels = np.ndarray[Any, Any]
Read = Callable[[Sequence[Window]], Iterator[Pixels]]

DRAWN_PX, PATCH_PX, TILE_PX, FACTORS = 8192, 512, 256, (4, 16)
FIRST = "tifffile.imread"


def drawn(path: Path, side_px: int) -> None:
    """A slide of a patch of cells, again and again."""
    patch = touching_cells((PATCH_PX, PATCH_PX), 120, seed=0).picture
    patch = np.clip(patch + np.random.default_rng(0).normal(0, 6, patch.shape), 0, 255).astype(np.uint8)
    options = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "compression": "jpeg", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        for factor in (1, *FACTORS):
            level = np.tile(patch[::factor, ::factor], (side_px // PATCH_PX, side_px // PATCH_PX, 1))
            writer.write(level, subfiletype=int(factor > 1), **options)


def cut(size_hw: tuple[int, int], side_px: int, most: int) -> list[Window]:
    """Windows side by side, in an order that is always the same, at most so many."""
    height, width = size_hw
    found = [
        (x, y, min(x + side_px, width), min(y + side_px, height))
        for y in range(0, height, side_px)
        for x in range(0, width, side_px)
    ]
    random.Random(0).shuffle(found)
    return found[:most]


def whole(path: Path, level: int, windows: Sequence[Window]) -> Iterator[Pixels]:
    """All of a level, and windows of that."""
    array = tifffile.imread(path, series=0, level=level)
    yield from (array[y0:y1, x0:x1] for x0, y0, x1, y1 in windows)


def through_zarr(path: Path, level: int, windows: Sequence[Window]) -> Iterator[Pixels]:
    """Windows of tifffile's view of the file as a zarr array."""
    import zarr

    with closing(tifffile.imread(path, aszarr=True, series=0, level=level)) as store:
        array = zarr.open(store, mode="r")
        yield from (np.asarray(array[y0:y1, x0:x1]) for x0, y0, x1, y1 in windows)


def by_raster(path: Path, level: int, reader: Reader, threads: int, windows: Sequence[Window]) -> Iterator[Pixels]:
    """Windows of rasters, one for each thread."""
    if threads == 1:
        with halfpixel.open_raster(path, reader=reader) as raster:
            yield from (raster.read(window, level) for window in windows)
        return
    parts = [windows[k::threads] for k in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(lambda part: list(by_raster(path, level, reader, 1, part)), parts))
    for k in range(len(windows)):
        yield done[k % threads][k // threads]


def readers(path: Path, level: int, threads: int) -> dict[str, Read]:
    """What is installed."""
    found: dict[str, Read] = {FIRST: partial(whole, path, level)}
    if find_spec("zarr"):
        found["tifffile aszarr"] = partial(through_zarr, path, level)
    if find_spec("openslide"):
        found["OpenSlide"] = partial(by_raster, path, level, "openslide", 1)
    found["Raster"] = partial(by_raster, path, level, "tifffile", 1)
    if threads > 1:
        found[f"Raster, {threads} threads"] = partial(by_raster, path, level, "tifffile", threads)
    return found


def measure(found: dict[str, Read], windows: Sequence[Window], rounds: int) -> list[Row]:
    """Megapixels a second of each reader, how they compare with the first, and whether the pixels are the same."""
    expected = [pixels.sum(dtype=np.int64) for pixels in found[FIRST](windows)]
    same = dict.fromkeys(found, True)
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for round in range(rounds + 1):
        for name in list(found)[:: 1 if round % 2 else -1]:
            start = time.perf_counter()
            sums = [pixels.sum(dtype=np.int64) for pixels in found[name](windows)]
            if round:
                seconds[name].append(time.perf_counter() - start)
                print(f"round {round}, {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
            same[name] &= sums == expected
    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in windows) / 1e6
    rows = []
    for name, took in seconds.items():
        ratios = [one / other for one, other in zip(seconds[FIRST], took, strict=True)]
        times = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        row = {"reader": name, "mpx_per_second": area / statistics.median(took), "times_as_fast": times}
        rows.append({**row, "same_pixels": same[name]})
    return rows


def opening(path: Path, rounds: int) -> float:
    """Median seconds to open a raster and read its first pixel."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        with halfpixel.open_raster(path, reader="tifffile") as raster:
            raster.read((0, 0, 1, 1))
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def describe(raster: Raster) -> str:
    """A slide in one line."""
    sizes = ", ".join(f"{level.size_hw[1]} x {level.size_hw[0]}" for level in raster.levels)
    return f"{raster.source.name}: {sizes}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path, nargs="?", help="a TIFF; default: a drawn one")
    parser.add_argument("--size", type=int, default=DRAWN_PX, help="sides of a drawn one in pixels")
    parser.add_argument("--level", type=int, default=0)
    parser.add_argument("--window", type=int, default=1024, help="sides of a window in pixels")
    parser.add_argument("--windows", type=int, default=64, help="how many at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = given.slide or Path(temporary) / "drawn.tif"
        if given.slide is None:
            drawn(path, given.size)
        with halfpixel.open_raster(path, reader="tifffile") as raster:
            print(describe(raster), flush=True)
            windows = cut(raster.levels[given.level].size_hw, given.window, given.windows)
        report: Row = {"machine": describe_machine(), "level": given.level, "window": given.window}
        report["readers"] = rows = measure(readers(path, given.level, given.threads), windows, given.rounds)
        report["open_seconds"] = opening(path, given.rounds)
    print("\n| | megapixels a second | times as fast | the same pixels |\n| --- | --- | --- | --- |")
    for row in rows:
        times, is_same = row["times_as_fast"], "yes" if row["same_pixels"] else "no"
        spread = f"{times['median']:.2f} ({times['low']:.2f}-{times['high']:.2f})"
        print(f"| {row['reader']} | {row['mpx_per_second']:.0f} | {spread} | {is_same} |")
    print(f"\nA raster is open, and its first pixel read, after {1000 * report['open_seconds']:.0f} ms.")
    if given.json is not None:
        write_whole(given.json, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    main()
