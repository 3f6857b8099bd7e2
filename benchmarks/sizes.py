"""How large objects are: teaches the network that finds it, says how far off it is, and what it does to counts.

Of each modality (an attribute of the images) every tenth image of the training data is held out, or, of data sets of
less than 30, every third part of them: `train` does not see it, and how far off the finder is there is written into the
model files with it.

    python benchmarks/sizes.py train train.json more.json --into model.safetensors --source "what it was trained on"
    python benchmarks/sizes.py errors train.json more.json --model nuclei
    python benchmarks/sizes.py counts val.json --model nuclei --images 8

`counts` takes so many images, evenly spread over the sizes of their objects, reduces and enlarges them, the latter with
noise and blur as a camera behind a stronger objective has, and counts them with the size that is found, the given one
(that of the annotated objects) and, up to `--assumed-to` times the size (at least 1), the one that the model assumes.
"""

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter

import halfpixel
from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.size_finder import SizeFinder
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.detection.error_types import classify_errors
from halfpixel.files import write_whole
from halfpixel.structures.diameters import SizeFinderInfo, equivalent_diameters, typical_diameter
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.train.size_training import SizeRecipe, train_size_network
from halfpixel.zoo.modelfile import load_model, read_info, save_model

MODALITY = "modality"
EVERY, AT_LEAST = 10, 3
TIMES = (0.25, 0.5, 1.0, 2.0, 4.0)
FOUND, GIVEN, ASSUMED = WAYS = "found", "given", "assumed"
NOISE = 4.0
MOST_OCTAVES = 0.35
"""The bar: nine of ten diameters are right to so many octaves."""
COUNTS_OFF = 0.05
"""The bar: counts with the size that is found, of all rescaled images together, are that near to those as they are."""

Row = dict[str, Any]


def split(datasets: Sequence[Dataset]) -> tuple[Dataset, Dataset]:
    """All images but those held out, and those, each with its modality; classes are left out."""
    kept: list[Sample] = []
    held: list[Sample] = []
    for dataset in datasets:
        groups: dict[str, list[Sample]] = {}
        for sample in dataset.samples:
            groups.setdefault(str(sample.attributes.get(MODALITY)), []).append(sample)
        step = min(EVERY, math.ceil(len(dataset.samples) / AT_LEAST))
        for group in groups.values():
            held += group[step // 2 :: step]
            kept += [sample for k, sample in enumerate(group) if k % step != step // 2]
    return dataclasses.replace(datasets[0], samples=tuple(kept)), dataclasses.replace(datasets[0], samples=tuple(held))


def diameter_of(sample: Sample) -> float | None:
    """The typical diameter of an image's annotated objects, in its pixels."""
    assert sample.objects.masks is not None
    return typical_diameter(equivalent_diameters(sample.objects.masks.areas_px().numpy()))


def rescaled(pixels: Rgb8, times: float) -> Rgb8:
    """An image of another size: reduced it is averaged, enlarged it has a camera's blur and noise."""
    if times == 1:
        return pixels
    picture = Image.fromarray(pixels)
    size = (max(round(picture.width * times), 1), max(round(picture.height * times), 1))
    if times < 1:
        return np.asarray(picture.resize(size, Image.Resampling.BOX))
    picture = picture.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(times / 3))
    noise = np.random.default_rng(0).normal(0, NOISE, (picture.height, picture.width, 1))
    return np.clip((np.asarray(picture, dtype=np.float64) + noise).round(), 0, 255).astype(np.uint8)


class Off(NamedTuple):
    """How far off the diameters of some images are.

    Attributes:
        images: in which objects are annotated.
        not_found: of these.
        bias: the mean of log2(found / annotated).
        median: of its absolute value.
        ninth: the tenth part of images that is worst begins here.
    """

    images: int
    not_found: int
    bias: float
    median: float
    ninth: float


def errors_of(finder: SizeFinder, samples: Sequence[Sample], times: float = 1.0) -> dict[str, Off]:
    """How far off the diameters are, of all images and of each modality."""
    octaves: dict[str, list[float | None]] = {}
    for sample in samples:
        true = diameter_of(sample)
        if true is None:
            continue
        found = finder.diameter_px(rescaled(read_image(sample.path), times))
        for name in ("all", str(sample.attributes.get(MODALITY))):
            octaves.setdefault(name, []).append(None if found is None else math.log2(found / true / times))
    return {name: _off(values) for name, values in octaves.items()}


def _off(values: Sequence[float | None]) -> Off:
    known = np.array([one for one in values if one is not None])
    if not len(known):
        return Off(len(values), len(values), math.nan, math.nan, math.nan)
    sizes = np.abs(known)
    numbers = float(known.mean()), float(np.median(sizes)), float(np.percentile(sizes, 90))
    return Off(len(values), len(values) - len(known), *numbers)


def train(arguments: argparse.Namespace) -> bool:
    """Teach a finder, and put it into model files."""
    kept, held = split([read_dataset(path) for path in arguments.data])
    print(f"{len(kept.samples)} images, {len(held.samples)} held out")
    recipe = SizeRecipe(steps=arguments.steps, balance=MODALITY, seed=arguments.seed)
    start, losses = time.perf_counter(), []

    def report(step: int, loss: float) -> None:
        losses.append(loss)
        if step % 100 == 0:
            print(f"step {step}: loss {np.mean(losses[-100:]):.4f}, {time.perf_counter() - start:.0f} s", flush=True)

    network = train_size_network(kept, recipe, report)
    off = errors_of(SizeFinder(network, SizeFinderInfo(0.0, recipe.stretch_below)), held.samples)
    _print_errors(off)
    error = math.ceil(off["all"].ninth * 100) / 100
    about = SizeFinderInfo(error, recipe.stretch_below, arguments.source, arguments.licence)
    for path in arguments.into:
        model, info = load_model(path)
        half = path.stat().st_size < 3 * sum(one.numel() for one in model.state_dict().values())
        save_model(path, model, dataclasses.replace(info, size_finder=about), half=half, size_network=network)
        print(f"into {path}: {read_info(path).size_finder}")
    return off["all"].ninth <= MOST_OCTAVES


def errors(arguments: argparse.Namespace) -> bool:
    """How far off the finder in a model file is on images that were held out."""
    finder = _finder(arguments.model)
    _, held = split([read_dataset(path) for path in arguments.data])
    found = {}
    for times in arguments.times:
        found[times] = errors_of(finder, held.samples, times)
        print(f"at {times:g} times the size")
        _print_errors(found[times])
    _write(arguments.json, {f"{times:g}": {k: v._asdict() for k, v in off.items()} for times, off in found.items()})
    return found[1.0]["all"].ninth <= MOST_OCTAVES if 1.0 in found else True


def _print_errors(off: dict[str, Off]) -> None:
    for name, one in off.items():
        print(
            f"  {name}: {one.images} images, {one.not_found} not found; octaves off: bias {one.bias:+.2f}, "
            f"median {one.median:.2f}, 90th percentile {one.ninth:.2f}"
        )


def _finder(model: str) -> SizeFinder:
    finder = halfpixel.load(model).size_finder
    if finder is None:
        raise ArgumentError(f"{model}: the model does not find sizes")
    return finder


def spread(dataset: Dataset, n: int) -> list[Sample]:
    """So many images with objects, evenly spread over the sizes of these."""
    sized = [(diameter, k) for k, one in enumerate(dataset.samples) if (diameter := diameter_of(one)) is not None]
    sized.sort()
    n = min(n, len(sized))
    return [dataset.samples[sized[(2 * k + 1) * len(sized) // (2 * n)][1]] for k in range(n)]


class Looks:
    """What predictors find in a picture; those that look at it alike look once.

    Args:
        picture: the pixels.
        truth: what is annotated on it; None where that is not known.
    """

    def __init__(self, picture: Rgb8, truth: Instances | None) -> None:
        self.picture, self.truth = picture, truth
        self.known: dict[float | None, Row] = {}

    def __call__(self, predictor: Predictor) -> Row:
        """Scale, count and seconds, and how many annotated objects are cut to pieces, where that is known."""
        scale = predictor.info.input.scale
        if scale not in self.known:
            start = time.perf_counter()
            found = predictor.predict(self.picture)
            seconds = time.perf_counter() - start
            splits = None if self.truth is None else len(classify_errors(self.truth, found).splits)
            self.known[scale] = {"scale": scale, "count": len(found), "seconds": seconds, "splits": splits}
        return self.known[scale]


def enlarged_truth(objects: Instances, times: int) -> Instances:
    """Annotated objects on an image so many times as large."""
    masks = objects.masks
    assert masks is not None
    crops = tuple(one.repeat_interleave(times, 0).repeat_interleave(times, 1) for one in masks.crops)
    size_hw = (masks.size_hw[0] * times, masks.size_hw[1] * times)
    larger = CropMasks(crops, (masks.offsets_xy + torch.tensor(masks.origin_xy)) * times, size_hw)
    return dataclasses.replace(objects, size_hw=size_hw, boxes_xyxy=objects.boxes_xyxy * times, masks=larger)


def count_rows(model: Predictor, samples: Sequence[Sample], times: Sequence[float], assumed_to: float) -> Iterator[Row]:
    """The counts of rescaled images; with the size that is assumed only up to some enlargement, as that takes long."""
    finder = model.size_finder
    assert finder is not None
    as_assumed = model.without_size_finder()
    for sample in samples:
        pixels, true = read_image(sample.path), diameter_of(sample)
        assert true is not None
        for factor in times:
            picture = rescaled(pixels, factor)
            start = time.perf_counter()
            diameter_px = finder.diameter_px(picture)
            seconds_finding = time.perf_counter() - start
            look = Looks(picture, enlarged_truth(sample.objects, int(factor)) if factor >= 1 else None)
            chosen = model.choose_scale(picture).scale
            yield {
                "image": sample.path.name,
                "modality": sample.attributes.get(MODALITY),
                "times": factor,
                "annotated": len(sample.objects),
                "diameter_px": true * factor,
                "found_diameter_px": diameter_px,
                "seconds_finding": seconds_finding,
                FOUND: look(as_assumed if chosen is None else as_assumed.at_scale(chosen)),
                GIVEN: look(as_assumed.for_diameter(true * factor)),
                ASSUMED: look(as_assumed) if factor <= max(assumed_to, 1) else None,
            }


def counts(arguments: argparse.Namespace) -> bool:
    """What the sizes that are found do to counts."""
    model = halfpixel.load(arguments.model)
    _finder(arguments.model)
    samples = spread(read_dataset(arguments.data[0]), arguments.images)
    rows = []
    for row in count_rows(model, samples, arguments.times, arguments.assumed_to):
        rows.append(row)
        counted = [f"{way} {row[way]['count']} (at {row[way]['scale']:.3g})" for way in WAYS if row[way] is not None]
        print(f"{row['image'][:8]} x {row['times']:g}, {row['annotated']} annotated: {', '.join(counted)}", flush=True)
    _write(arguments.json, rows)
    return _summarise(rows, arguments.times)


def _summarise(rows: Sequence[Row], times: Sequence[float]) -> bool:
    """Print what all images come to; whether the counts are as they should be."""
    usual = {row["image"]: row[ASSUMED]["count"] for row in rows if row["times"] == 1}
    good = True
    for factor in times:
        some = [row for row in rows if row["times"] == factor]
        total = sum(usual.values())
        print(f"at {factor:g} times the size, {total} as they are")
        for way in WAYS if some[0][ASSUMED] is not None else WAYS[:2]:
            found = sum(row[way]["count"] for row in some)
            off = sum(abs(row[way]["count"] - usual[row["image"]]) for row in some)
            splits = f", {sum(row[way]['splits'] for row in some)} annotated ones cut to pieces" if factor >= 1 else ""
            print(f"  {way}: {found} found, off by {off} added up{splits}")
            good &= way != FOUND or abs(found - total) <= COUNTS_OFF * total
        share = sum(row["seconds_finding"] for row in some) / sum(row[GIVEN]["seconds"] for row in some)
        print(f"  finding sizes takes {share:.1%} of a look at the given size")
    return good


def _write(path: Path | None, numbers: object) -> None:
    if path is not None:
        write_whole(path, (json.dumps(numbers, indent=1) + "\n").encode())


def main() -> int:
    """Run one of the three; 1 where the bar is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (train, errors, counts):
        of_verb = verbs.add_parser(verb.__name__, help=verb.__doc__)
        of_verb.set_defaults(verb=verb)
        of_verb.add_argument("data", type=Path, nargs="+")
        if verb is train:
            of_verb.add_argument("--into", type=Path, nargs="+", default=[])
            of_verb.add_argument("--steps", type=int, default=1500)
            of_verb.add_argument("--seed", type=int, default=0)
            of_verb.add_argument("--source", default="")
            of_verb.add_argument("--licence", default="")
        else:
            of_verb.add_argument("--model", default="nuclei")
            of_verb.add_argument("--times", type=float, nargs="+", default=list(TIMES))
            of_verb.add_argument("--json", type=Path)
        if verb is counts:
            of_verb.add_argument("--images", type=int, default=8)
            of_verb.add_argument("--assumed-to", type=float, default=1.0)
    arguments = parser.parse_args()
    if arguments.verb is counts and (1 not in arguments.times or any(one > 1 and one % 1 for one in arguments.times)):
        parser.error("--times: counts are compared with those at 1, and images enlarged by whole factors")
    return 0 if arguments.verb(arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
