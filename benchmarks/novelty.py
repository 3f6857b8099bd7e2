"""How many images of some kinds a model says are unlike those that it was trained on, and what saying so costs.

    python benchmarks/novelty.py
    python benchmarks/novelty.py --model nuclei --images val=val.json photographs=coco/instances.json mine=some/folder
    python benchmarks/novelty.py --calibrated train.json --images photographs=coco/instances.json

Besides the images that are given, it looks at generated ones that are certainly no microscopy: fields of stars and
galaxies, noise of several grains, blank images, pages of text, stripes, drawn shapes, and cells enlarged ten times. No
network looks at them, but for the last line: the time for a look at one image of 256 x 256 pixels without and with the
check. A name that is given several times stands for all its images.

With `--calibrated` the known images are instead some of a data set that have one size and modality (an attribute), as
after calibrating on them: how many of the others of their kind are flagged, and of all the images above.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from halfpixel.engine.size_finder import octaves_from_usual
from halfpixel.structures.novelty import CELL_PX, Appearance, Novelty, is_unlike

Rgb8 = npt.NDArray[np.uint8]
IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
SIZE = (320, 320)
TIMES = (0.25, 0.5, 2.0, 4.0)
CALIBRATED_ON = (12, 20, 40)


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


def generated(each: int) -> Iterator[tuple[str, list[Rgb8]]]:
    """So many images of each strange kind, and what it is called."""
    for make in STRANGE:
        values = [make(np.random.default_rng(k)) for k in range(each)]
        yield make.__name__.replace("_", " "), [as_rgb8(np.clip(one, 0, 255).astype(np.uint8)) for one in values]


def seen(predictor: Predictor, image: Rgb8) -> list[Appearance]:
    """What each tile of an image looks like at the size that the model chooses, without the network."""
    chosen = predictor.choose_scale(image)
    looking = predictor if chosen.scale is None else predictor.at_scale(chosen.scale)
    octaves = octaves_from_usual(chosen, (image.shape[0], image.shape[1]), predictor.info.input)
    found = []
    for batch in looking.prepared(image):
        height, width = batch.sizes_hw[0].tolist()
        found.append(appearance(batch.tensor[0, :, :height, :width], looking.info.input, CELL_PX, octaves))
    return found


def novelty(known: Novelty, tiles: Sequence[Appearance]) -> float:
    """How unlike the known images one is of which each tile looks like that."""
    return statistics.median(known.of(one) for one in tiles)


def files_of(places: Sequence[str]) -> dict[str, list[Path]]:
    """Of each name the images of data sets' files, or in folders."""
    found: dict[str, list[Path]] = {}
    for name, place in (one.split("=", 1) for one in places):
        path, files = Path(place), found.setdefault(name, [])
        if path.is_dir():
            files += sorted(one for one in path.iterdir() if one.suffix.lower() in IMAGES)
        else:
            files += [sample.path for sample in read_dataset(path).samples]
    return found


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
    known = predictor.info.novelty
    assert known is not None, "checked"

    def tell(name: str, images: Iterable[Rgb8]) -> None:
        print(row(name, [novelty(known, seen(predictor, image)) for image in images]), flush=True)

    print("| images | number | unlike | novelty: median (range) |\n| --- | --- | --- | --- |")
    for name, paths in given.items():
        tell(name, map(read_image, paths))
        if name in in_grey:
            tell(f"{name} in grey", (grey(read_image(path)) for path in paths))
        for times in TIMES if name in at_other_sizes else ():
            tell(f"{name} at {times:g} times the size", (rescaled(read_image(path), times) for path in paths))
    for name, images in generated(each):
        tell(name, images)


def measure_calibrated(
    predictor: Predictor, data: Path, given: Mapping[str, Sequence[Path]], each: int, draws: int
) -> None:
    """Print how well some images of a kind tell others of it from those that are given or generated."""
    kinds: dict[tuple[object, ...], list[Appearance]] = {}
    for sample in read_dataset(data).samples:
        kind = (sample.attributes.get("modality"), *sample.size_hw)
        kinds.setdefault(kind, []).append(seen(predictor, read_image(sample.path))[0])
    kinds = {kind: looks for kind, looks in kinds.items() if len(looks) >= 2 * max(CALIBRATED_ON)}
    strange = [seen(predictor, read_image(path)) for paths in given.values() for path in paths]
    strange += [seen(predictor, image) for _, images in generated(each) for image in images]
    of_kinds = ", ".join(f"{' '.join(map(str, kind))}: {len(looks)}" for kind, looks in kinds.items())
    print(f"{len(kinds)} kinds of images ({of_kinds}), {draws} draws of each, {len(strange)} images of others\n")
    print("| known are | stated false alarm rate | false alarms | others flagged |\n| --- | --- | --- | --- |")
    for n in CALIBRATED_ON:
        alarms: list[bool] = []
        told: list[bool] = []
        for looks in kinds.values():
            for draw in range(draws):
                order = np.random.default_rng(draw).permutation(len(looks))
                known = Novelty.of_images([looks[k] for k in order[:n]], "calibration")
                assert known is not None, "enough for that"
                alarms += [known.of(looks[k]) > 1 for k in order[n:]]
                told += [novelty(known, tiles) > 1 for tiles in strange]
        rates = known.false_alarm_rate, sum(alarms) / len(alarms), sum(told) / len(told)
        print(f"| {n} | {' | '.join(f'{rate:.1%}' for rate in rates)} |", flush=True)


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
    parser.add_argument(
        "--calibrated", type=Path, metavar="DATA", help="instead, with images of one kind of these known"
    )
    parser.add_argument("--draws", type=int, default=10, help="of known images of each kind")
    parser.add_argument("--rounds", type=int, default=20, help="of timing; 0 for none")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor = halfpixel.load(options.model)
    if predictor.info.novelty is None:
        parser.error(f"{options.model} does not say what the images looked like that it was trained on")
    given = files_of(options.images)
    if options.calibrated is not None:
        measure_calibrated(predictor, options.calibrated, given, options.each, options.draws)
        return
    measure(predictor, given, options.grey, options.rescaled, options.each)
    if options.rounds:
        print_times(predictor, options.rounds)


if __name__ == "__main__":
    main()
