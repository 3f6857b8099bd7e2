"""Several threads, one device: what waits together runs together, and nobody notices but the clock."""

import copy
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import monotonic, sleep

import numpy as np
import pytest
import torch
from networks import CLASSES, enliven, few

from halfpixel.engine.backends.base import Backend
from halfpixel.engine.backends.batching import BatchingBackend, of_images
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.predictor import Predictor
from halfpixel.models import mask_rcnn
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, InputRules, Limits
from halfpixel.zoo.modelfile import ModelInfo, settings_of

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as hanging."""

LIMITS = Limits.of(0.5, 10)


class Sums(Backend):
    """Says of each image the sum of its pixels, once it may; remembers what it was given."""

    name, precision = "torch", "fp32"

    def __init__(
        self, images_at_once: int, fault: Callable[[ImageBatch], Exception | None] = lambda batch: None
    ) -> None:
        self.images_at_once, self.fault = images_at_once, fault
        self.began, self.may_go_on = Event(), Event()
        self.seen: list[tuple[int, ...]] = []
        self.limits: list[float] = []
        self.closed = False

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        self.began.set()
        assert self.may_go_on.wait(PATIENCE)
        self.seen.append(tuple(batch.tensor.shape))
        self.limits.append(float(limits.score_threshold))
        if error := self.fault(batch):
            raise error
        return {"sum": batch.tensor.sum((1, 2, 3))}

    def close(self) -> None:
        self.closed = True


def image(value: float, side: int = 4) -> ImageBatch:
    return ImageBatch(torch.full((1, 3, side, side), value), torch.tensor([[side, side]]))


def while_one_runs(backend: Sums, batches: list[ImageBatch], limits: list[Limits]) -> list[Future[Outputs]]:
    """The first batch runs until all the others wait."""
    together = BatchingBackend(backend, {"sum": "image"})
    with ThreadPoolExecutor(len(batches)) as pool:
        futures = [pool.submit(together.run, batches[0], limits[0])]
        assert backend.began.wait(PATIENCE)
        futures += [pool.submit(together.run, *one) for one in zip(batches[1:], limits[1:], strict=True)]
        end = monotonic() + PATIENCE
        while len(together._waiting) < len(batches) - 1 and monotonic() < end:
            sleep(0.01)
        backend.may_go_on.set()
    assert not together._waiting
    return futures


def test_what_waits_for_the_device_goes_together() -> None:
    backend = Sums(images_at_once=3)
    sides = [4, 4, 8, 4, 4, 8, 4]
    batches = [image(float(k), side) for k, side in enumerate(sides)]
    limits = [LIMITS] * 6 + [Limits.of(0.25, 10)]
    found = while_one_runs(backend, batches, limits)
    for k, (side, future) in enumerate(zip(sides, found, strict=True)):
        assert future.result()["sum"].tolist() == [3 * side * side * k]
    assert backend.seen[0] == (1, 3, 4, 4)  # nothing was waited for
    assert sorted(backend.seen[1:]) == [(1, 3, 4, 4), (2, 3, 8, 8), (3, 3, 4, 4)]
    assert sorted(backend.limits) == [0.25, 0.5, 0.5, 0.5]  # the last one's are others


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("too many")], ids=str)
def test_what_fails_together_runs_alone(error: Exception) -> None:
    backend = Sums(8, lambda batch: error if len(batch) > 2 else None)
    found = while_one_runs(backend, [image(float(k)) for k in range(4)], [LIMITS] * 4)
    assert [future.result()["sum"].item() for future in found] == [0.0, 48.0, 96.0, 144.0]
    assert [shape[0] for shape in backend.seen] == [1, 3, 1, 1, 1]


def test_a_fault_stays_with_its_image() -> None:
    backend = Sums(8, lambda batch: ValueError("a bad one") if (batch.tensor == 2).any() else None)
    found = while_one_runs(backend, [image(float(k)) for k in range(4)], [LIMITS] * 4)
    with pytest.raises(ValueError, match="a bad one"):
        found[2].result()
    assert [found[k].result()["sum"].item() for k in (0, 1, 3)] == [0.0, 48.0, 144.0]


def test_the_backend_is_closed_with_it() -> None:
    backend = Sums(2)
    BatchingBackend(backend, {}).close()
    assert backend.closed


def test_rows_maps_and_images_find_their_image() -> None:
    outputs = {
        "image_index": torch.tensor([0, 0, 2, 2, 2, 3]),
        "scores": torch.arange(6.0),
        "map": torch.arange(4.0).reshape(4, 1, 1),
    }
    layout = {"image_index": "row", "scores": "row", "map": "map"}
    some = of_images(outputs, layout, 1, 2)  # type: ignore[arg-type]
    assert some["image_index"].tolist() == [1, 1, 1]
    assert some["scores"].tolist() == [2, 3, 4]
    assert some["map"].ravel().tolist() == [1, 2]
    nothing = of_images(outputs, layout, 1, 1)  # type: ignore[arg-type]
    assert len(nothing["scores"]) == len(nothing["image_index"]) == 0


def test_a_folder_of_images_in_batches() -> None:
    """As on a GPU, which is told apart by nothing but how many images it wants at once."""
    torch.manual_seed(0)
    model = mask_rcnn.mask_rcnn_lite(CLASSES, few(mask_rcnn)).eval()
    enliven(model, torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    info = ModelInfo(
        "mask_rcnn_lite", CLASSES, InputRules(scale=1.5, longest_side=256), settings_of(model), 0.3, detection_limit=8
    )
    backend = TorchBackend(model, torch.device("cpu"), "fp32")
    predictor = Predictor(model, info, torch.device("cpu"), backend=backend)
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (60, 50 if k % 3 else 90, 3), dtype=np.uint8) for k in range(12)]
    expected = [predictor.predict(picture) for picture in pictures]
    batching = copy.copy(backend)
    batching.images_at_once = 4
    sizes: list[int] = []
    run = backend.run
    batching.run = lambda batch, limits: sizes.append(len(batch)) or run(batch, limits)  # type: ignore[method-assign]
    found = list(predictor.on(batching).predict_many(pictures))
    assert sum(sizes) == len(pictures)
    assert 1 < max(sizes) <= 4
    for a, b in zip(expected, found, strict=True):
        assert len(a) == len(b) > 2
        torch.testing.assert_close(a.boxes_xyxy, b.boxes_xyxy, atol=1e-2, rtol=1e-3)
        torch.testing.assert_close(a.scores, b.scores, atol=1e-3, rtol=1e-3)
