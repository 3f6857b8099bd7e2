"""How many images of some kinds a model says are unlike those that it was trained on, and what saying so costs.

    python benchmarks/novelty.py
    python benchmarks/novelty.py --model nuclei --images val=val.json photographs=coco/instances.json mine=some/folder

Besides the images that are given, it looks at generated ones that are certainly no microscopy: fields of stars and
galaxies, noise of several grains, blank images, pages of text, stripes, drawn shapes, and cells enlarged ten times. No
network looks at them, but for the last line: the time for a look at one image of 256 x 256 pixels without and with the
check.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, zoom
from sizes import rescaled

import halfpixel
from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.images.appearance import appearance
from halfpixel.data.images.rgb8 import as_rgb8, read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.structures.novelty import is_unlike

Rgb8 = npt.NDArray[np.uint8]
SIZE = (320, 320)
TIMES = (0.25, 0.5, 2.0, 4.0)


def stars(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Points of many brightnesses, and a few galaxies."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    points = np.zeros(SIZE)
    for _ in range(random.integers(60, 900)):
        points[random.integers(SIZE[0]), random.integers(SIZE[1])] += 60 * random.pareto(1.2)
    sky = np.clip(12 * gaussian_filter(points, random.uniform(0.7, 1.6)), 0, 255) + random.normal(8, 3, SIZE)
    for _ in range(random.integers(0, 25)):
        y, x, size = random.uniform(0, SIZE[0]), random.uniform(0, SIZE[1]), random.uniform(1.5, 7)
        angle, flatness = random.uniform(0, np.pi), random.uniform(0.3, 1)
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        sky += random.uniform(20, 160) * np.exp(-np.hypot(along, across / flatness) / size)
    return sky


def noise(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of some grain, grey or coloured."""
    grain = random.choice([0, 0.7, 1.5, 3, 6, 12])
    values = gaussian_filter(random.normal(size=(*SIZE, random.choice([1, 3]))), (grain, grain, 0))
    scaled: npt.NDArray[np.float64] = values / values.std() * random.uniform(15, 60) + random.uniform(40, 200)
    return scaled.repeat(3 // scaled.shape[2], axis=2)


def blank(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """One grey, with at most a little noise."""
    return random.choice([0, 5, 40, 128, 230, 255]) + random.normal(size=SIZE) * random.choice([0, 1, 3])


def text(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """A page of letters, dark on light or light on dark."""
    page = Image.new("L", SIZE, 255)
    font = ImageFont.load_default(int(size := random.integers(9, 26)))
    for y in range(4, SIZE[0], int(1.4 * size)):
        line = "".join(chr(one) if one < 123 else " " for one in random.integers(97, 128, 90))
        ImageDraw.Draw(page).text((4, y), line, fill=10, font=font)
    grey = np.asarray(page, dtype=np.float64)
    return grey if random.random() < 0.5 else 255 - grey


def stripes(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Of some direction and width, soft or hard."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    angle = random.uniform(0, np.pi)
    wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / random.uniform(4, 60))
    return 128 + 100 * (wave if random.random() < 0.5 else np.sign(wave))


def shapes(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Discs and squares in all colours."""

    def colour() -> tuple[int, ...]:
        return tuple(random.integers(0, 256, 3).tolist())

    picture = Image.new("RGB", SIZE, colour())
    draw = ImageDraw.Draw(picture)
    for _ in range(random.integers(10, 80)):
        x, y, size = random.uniform(0, SIZE[1]), random.uniform(0, SIZE[0]), random.uniform(4, 40)
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)((x - size, y - size, x + size, y + size), colour())
    return np.asarray(picture, dtype=np.float64)


def cells_enlarged(random: np.random.Generator) -> npt.NDArray[np.float64]:
    """A few cells at ten times the size, with a camera's noise."""
    cells = touching_cells((64, 64), 6, seed=int(random.integers(1 << 30))).picture[16:48, 16:48, 0]
    large: npt.NDArray[np.float64] = zoom(gaussian_filter(cells.astype(np.float64), 0.8), 10, order=3)
    return large + random.normal(0, 3, large.shape)


STRANGE: Sequence[Callable[[np.random.Generator], npt.NDArray[np.float64]]] = (
    stars,
    noise,
    blank,
    text,
    stripes,
    shapes,
    cells_enlarged,
)


def novelty(predictor: Predictor, image: Rgb8) -> float:
    """How unlike the known images one is at the size that the model looks at it, without the network."""
    known, scale = predictor.info.novelty, predictor.choose_scale(image).scale
    assert known is not None, "checked"
    looking = predictor if scale is None else predictor.at_scale(scale)
    found = []
    for batch in looking.prepared(image):
        height, width = batch.sizes_hw[0].tolist()
        found.append(known.of(appearance(batch.tensor[0, :, :height, :width], looking.info.input, known.cell_px)))
    return statistics.median(found)


def files_of(place: str) -> list[Path]:
    """The images of a data set's file, or in a folder."""
    path = Path(place)
    if path.is_dir():
        return sorted(one for one in path.iterdir() if one.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff"))
    return [sample.path for sample in read_dataset(path).samples]


def row(name: str, found: Sequence[float]) -> str:
    """Of the table."""
    unlike = sum(bool(is_unlike(one)) for one in found)
    middle, low, high = statistics.median(found), min(found), max(found)
    return f"| {name} | {len(found)} | {unlike} ({unlike / len(found):.0%}) | {middle:.2f} ({low:.2f} to {high:.2f}) |"


def grey(image: Rgb8) -> Rgb8:
    """Without its colours."""
    return as_rgb8(np.asarray(Image.fromarray(image).convert("L")))


def measure(
    predictor: Predictor,
    given: Mapping[str, Sequence[Path]],
    in_grey: Sequence[str],
    at_other_sizes: Sequence[str],
    each: int,
) -> None:
    """Print the table."""
    print("| images | number | unlike | novelty: median (range) |\n| --- | --- | --- | --- |")
    for name, paths in given.items():
        print(row(name, [novelty(predictor, read_image(path)) for path in paths]), flush=True)
        if name in in_grey:
            found = [novelty(predictor, grey(read_image(path))) for path in paths]
            print(row(f"{name} in grey", found), flush=True)
        for times in TIMES if name in at_other_sizes else ():
            found = [novelty(predictor, rescaled(read_image(path), times)) for path in paths]
            print(row(f"{name} at {times:g} times the size", found), flush=True)
    for make in STRANGE:
        images = [as_rgb8(np.clip(make(np.random.default_rng(k)), 0, 255).astype(np.uint8)) for k in range(each)]
        print(row(make.__name__.replace("_", " "), [novelty(predictor, one) for one in images]), flush=True)


def print_times(predictor: Predictor, rounds: int) -> None:
    """What a look takes of the processor, and the check's share of it."""
    image = touching_cells((256, 256), 30).picture
    without = Predictor(predictor.model, replace(predictor.info, novelty=None), predictor.device)
    looks: list[float] = []
    checks: list[float] = []
    batch = next(iter(predictor.prepared(image)))
    known = predictor.info.novelty
    assert known is not None, "checked"
    for _ in range(rounds):
        began = time.process_time()
        without.predict(image)
        looks.append(time.process_time() - began)
        began = time.process_time()
        known.of(appearance(batch.tensor[0], predictor.info.input, known.cell_px))
        checks.append(time.process_time() - began)
    look, check = statistics.median(looks), statistics.median(checks)
    share = f"{1000 * check:.1f} ms ({check / look:.1%}) for the check"
    print(f"256 x 256 pixels: {1000 * look:.0f} ms of processor time a look, {share}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", nargs="*", default=[], metavar="NAME=PLACE", help="a data set's file, or a folder")
    parser.add_argument("--grey", nargs="*", default=[], metavar="NAME", help="of these also without their colours")
    parser.add_argument("--rescaled", nargs="*", default=[], metavar="NAME", help="of these also at other sizes")
    parser.add_argument("--each", type=int, default=20, help="so many images of each generated kind")
    parser.add_argument("--rounds", type=int, default=20, help="of timing; 0 for none")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = halfpixel.load(options.model)
    if predictor.info.novelty is None:
        parser.error(f"{options.model} does not say what the images looked like that it was trained on")
    given = dict(one.split("=", 1) for one in options.images)
    paths = {name: files_of(place) for name, place in given.items()}
    measure(predictor, paths, options.grey, options.rescaled, options.each)
    if options.rounds:
        print_times(predictor, options.rounds)


if __name__ == "__main__":
    main()
