"""Where the time goes inside torchvision's Mask R-CNN and inside ours, under the same names."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from peers import BASE, Pixels, Torchvision

from halfpixel.engine.predictor import Predictor
from halfpixel.models import mask_rcnn
from halfpixel.report.speed import Configuration, interleaved_runs

STAGES = (
    "prepare", "backbone", "pyramid", "proposals", "RoIAlign", "box head", "mask head", "pasting", "everything else",
)  # fmt: skip

Watched = tuple[Any, str, str]
"""An object or a module, the name of one of its methods or functions, and the stage that its time belongs to."""


class Stopwatch:
    """Adds up the seconds of each stage; time inside a watched method does not count for the one that called it."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._inside: list[float] = []

    @contextmanager
    def on(self, watched: Sequence[Watched]) -> Iterator[None]:
        """Watch some methods for a while."""
        own = [vars(owner).get(name) for owner, name, _ in watched]  # a module's function is its own, a method is not
        for owner, name, stage in watched:
            setattr(owner, name, self._timed(getattr(owner, name), stage))
        try:
            yield
        finally:
            for (owner, name, _), before in zip(watched, own, strict=True):
                if before is None:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)

    def _timed(self, method: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            self._inside.append(0.0)
            try:
                return method(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[stage] += took - self._inside.pop()
                if self._inside:
                    self._inside[-1] += took

        return timed


def of_torchvision(whole: Torchvision) -> list[Watched]:
    """What to watch in torchvision."""
    module = whole.module
    heads, transform = module.roi_heads, module.transform
    return [
        (whole, "to_tensor", "prepare"),
        (transform, "forward", "prepare"),
        (module.backbone.body, "forward", "backbone"),
        (module.backbone.fpn, "forward", "pyramid"),
        (module.rpn, "forward", "proposals"),
        (heads.box_roi_pool, "forward", "RoIAlign"),
        (heads.mask_roi_pool, "forward", "RoIAlign"),
        (heads.box_head, "forward", "box head"),
        (heads.box_predictor, "forward", "box head"),
        (heads, "postprocess_detections", "box head"),
        (heads.mask_head, "forward", "mask head"),
        (heads.mask_predictor, "forward", "mask head"),
        (transform, "postprocess", "pasting"),
        (whole, "binary", "pasting"),
        (whole, "find", "everything else"),
    ]


def of_ours(predictor: Predictor) -> list[Watched]:
    """What to watch in a predictor whose torch backend has run before."""
    backend: Any = predictor.backend
    network = backend._copy  # the copy that really runs
    return [
        (network.backbone, "forward", "backbone"),
        (network.pyramid, "forward", "pyramid"),
        (network.rpn, "forward", "proposals"),
        (network.rpn, "propose", "proposals"),
        (network, "_crop", "RoIAlign"),
        (network.box_head, "forward", "box head"),
        (mask_rcnn, "detect", "box head"),
        (network.mask_head, "forward", "mask head"),
        (predictor.model, "decode", "pasting"),
        (backend, "run", "everything else"),
        (predictor, "predict", "prepare"),  # what is left of it
    ]


def stage_seconds(
    theirs: Torchvision, predictors: Mapping[Configuration, Predictor], images: Sequence[Pixels], rounds: int
) -> list[dict[str, Any]]:
    """Seconds of each stage, medians over images and rounds: torchvision in fp32, and ours in torch."""
    ours = {f"halfpixel {config}": one for config, one in predictors.items() if config.backend == "torch"}
    for predictor in ours.values():
        predictor.predict(images[0])  # makes the copy that is to be watched
    watched = {BASE: of_torchvision(theirs)}
    watched |= {name: of_ours(one) for name, one in ours.items()}
    finders: dict[str, Any] = {BASE: (theirs, "find"), **{name: (one, "predict") for name, one in ours.items()}}

    def run(name: str, pixels: Pixels) -> dict[str, float]:
        watch, (owner, method) = Stopwatch(), finders[name]
        with watch.on(watched[name]):
            getattr(owner, method)(pixels)
        return watch.seconds

    configs = {name: (lambda pixels, name=name: run(name, pixels)) for name in watched}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in watched}
    for timed in interleaved_runs(configs, images, rounds):
        if timed.round:
            found[timed.name].append(timed.result)
    return [
        {"stage": stage, **{name: float(np.median([run[stage] for run in runs])) for name, runs in found.items()}}
        for stage in STAGES
    ]
