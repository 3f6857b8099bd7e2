"""Images a second on a GPU: torchvision's Mask R-CNN and ours, one image at a time and eight."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from peers import BASE, Pixels
from torchvision.models.detection import MaskRCNN

from halfpixel.data.images.prepare import prepare
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.load import from_torchvision
from halfpixel.engine.predictor import Predictor
from halfpixel.report.speed import Quartiles, interleaved_runs
from halfpixel.structures.images import ImageBatch, Limits


def on_gpu(module: MaskRCNN, images: Sequence[Pixels], rounds: int) -> list[dict[str, Any]]:
    """Images a second, one or eight at a time, from pixels in memory to masks in memory."""
    device = torch.device("cuda")
    theirs, predictor = copy.deepcopy(module).to(device), from_torchvision(module)
    predictors = {
        f"halfpixel torch {precision}": predictor.on(TorchBackend(predictor.model, device, precision))
        for precision in ("fp32", TorchBackend(predictor.model, device).precision)
    }

    def torchvision_in(pixels: Sequence[Pixels], autocast: bool) -> None:
        tensors = [torch.tensor(one, device=device).permute(2, 0, 1).float() / 255 for one in pixels]
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext():
            for found in theirs(tensors):
                (found["masks"] > 0.5).cpu()

    def ours_in(predictor: Predictor, pixels: Sequence[Pixels]) -> None:
        prepared, sizes = zip(*(prepare(one, predictor.info.input) for one in pixels), strict=True)
        limits = Limits.of(predictor.info.score_threshold, predictor.info.detection_limit)
        outputs = predictor.backend.run(ImageBatch.pad(prepared, predictor.info.input.divisor), limits)
        with torch.inference_mode():
            predictor.model.decode(outputs, sizes, limits)

    configs: dict[str, Callable[[Any], None]] = {
        BASE: lambda pixels: torchvision_in(pixels, False),
        "torchvision bf16 autocast": lambda pixels: torchvision_in(pixels, True),
    }
    configs |= {name: (lambda pixels, one=one: ours_in(one, pixels)) for name, one in predictors.items()}
    rows = []
    for size in (1, 8):
        batches: list[Any] = [[images[(k + j) % len(images)] for j in range(size)] for k in range(0, len(images), size)]
        seconds: dict[str, list[float]] = {name: [] for name in configs}
        for timed in interleaved_runs(configs, batches, rounds):
            if timed.round:
                seconds[timed.name].append(timed.seconds)
        base = np.array(seconds[BASE])
        for name, took in seconds.items():
            ratio = Quartiles.of(base / np.array(took))._asdict()
            rate = size / float(np.median(took))
            rows.append({"name": name, "batch": size, "images_per_second": rate, "times_as_fast": ratio})
    return rows
