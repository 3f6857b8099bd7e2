"""Several images at once: in order, bounded, undisturbed by each other, and quick to stop."""

import itertools
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from networks import CLASSES, enliven, few
from PIL import Image

from halfpixel.engine import parallel
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.parallel import in_order, is_large
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, ImageError
from halfpixel.models import mask_rcnn
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, InputRules, Limits
from halfpixel.structures.instances import Instances
from halfpixel.zoo.modelfile import ModelInfo, settings_of

CPU = torch.device("cpu")
PATIENCE = 20.0
"""Seconds after which something that should have happened counts as hanging."""


def leave_nothing() -> bool:
    """Whether all threads of the pipeline are gone."""
    return not [one for one in threading.enumerate() if one.name.startswith("halfpixel")]


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    yield
    assert leave_nothing()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """What a machine with two processors has, whatever this one has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def results(found: Iterator[tuple[int, Future[int]]]) -> list[int]:
    return [future.result() for _, future in found]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order_whatever_takes_long(workers: int) -> None:
    waits = np.random.default_rng(workers).random(40) * 0.01

    def square(k: int) -> int:
        time.sleep(waits[k])
        return k * k

    assert results(in_order(range(40), square, workers=workers, threads=1)) == [k * k for k in range(40)]
    assert results(in_order([], square, workers=workers, threads=1)) == []


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (2, 2), (3, 1)])
def test_few_items_are_in_the_air(workers: int, ahead: int) -> None:
    drawn, most, active, most_active = 0, 0, 0, 0
    lock = threading.Lock()

    def source() -> Iterator[int]:
        nonlocal drawn
        for k in range(300):
            drawn += 1
            yield k

    def work(k: int) -> int:
        nonlocal active, most_active
        with lock:
            active += 1
            most_active = max(most_active, active)
        time.sleep(0.001)
        with lock:
            active -= 1
        return k

    for k, (item, _) in enumerate(in_order(source(), work, workers=workers, threads=1, ahead=ahead)):
        assert item == k
        if k % 50 == 0:
            time.sleep(0.05)  # writing takes long, now and then: the workers must not run away
        most = max(most, drawn - k)
    assert most_active == workers
    assert workers < most <= workers + ahead + 2  # one more is read, and one is the caller's


def test_workers_work_while_the_caller_does_something_else() -> None:
    begun = threading.Event()

    def work(k: int) -> int:
        if k == 1:
            begun.set()
        return k

    for k, _ in in_order(range(2), work, workers=1, threads=1):
        if k == 0:
            assert begun.wait(PATIENCE)


def fail_at_three(k: int) -> int:
    if k == 3:
        raise ValueError("the third")
    return k


@pytest.mark.parametrize("alone", [False, True])
def test_a_failure_comes_in_its_place_and_the_others_go_on(alone: bool) -> None:
    found = dict(in_order(range(6), fail_at_three, workers=2, threads=1, alone=lambda k: alone))
    assert [found[k].result() for k in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]
    with pytest.raises(ValueError, match="the third") as caught:
        found[3].result()
    assert "fail_at_three" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_a_failing_source_is_told_after_what_it_gave() -> None:
    def source() -> Iterator[int]:
        yield from range(3)
        raise OSError("unplugged")

    found = in_order(source(), fail_at_three, workers=2, threads=1)
    assert [next(found)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="unplugged"):
        next(found)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("taken", [1, 3])
def test_closing_stops_reading_and_working(taken: int, alone: bool) -> None:
    drawn: list[int] = []
    called: list[int] = []

    def source() -> Iterator[int]:
        for k in itertools.count():
            drawn.append(k)
            yield k

    def work(k: int) -> int:
        called.append(k)
        return k

    found = in_order(source(), work, workers=2, threads=1, alone=lambda k: alone)
    for _ in range(taken):
        next(found)
    start = time.perf_counter()
    found.close()
    assert time.perf_counter() - start < PATIENCE
    assert leave_nothing()
    assert len(drawn) <= taken + 2 + parallel.AHEAD + 2
    before = len(called)
    time.sleep(0.02)
    assert len(called) == before


def test_ctrl_c_stops_everything() -> None:
    def interrupted(k: int) -> int:
        if k == 2:
            raise KeyboardInterrupt
        return k

    found = in_order(itertools.count(), interrupted, workers=2, threads=1)
    assert [next(found)[1].result() for _ in range(2)] == [0, 1]
    with pytest.raises(KeyboardInterrupt):
        next(found)[1].result()
    with pytest.raises(KeyboardInterrupt):
        found.throw(KeyboardInterrupt)  # as when it comes while the generator waits for a worker


def test_what_is_to_be_alone_is_alone_and_in_the_callers_thread() -> None:
    active: list[int] = []
    where: dict[int, int] = {}

    def work(k: int) -> int:
        active.append(k)
        where[k] = threading.get_ident()
        time.sleep(0.003)
        if k % 4 == 1:
            assert active == [k]
        active.remove(k)
        return k

    assert results(in_order(range(20), work, workers=3, threads=1, alone=lambda k: k % 4 == 1)) == list(range(20))
    mine = {k for k, thread in where.items() if thread == threading.get_ident()}
    assert mine == {k for k in range(20) if k % 4 == 1}


@pytest.mark.usefixtures("two_threads")
def test_torch_uses_fewer_threads_in_workers_only() -> None:
    def threads(_: int) -> int:
        torch.ones(300, 300).sum()  # torch would set a new thread's number at its first sum
        return torch.get_num_threads()

    for k, future in in_order(range(4), threads, workers=2, threads=1, alone=lambda k: k == 3):
        assert future.result() == (2 if k == 3 else 1)
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        other = threading.Thread(target=lambda seen=seen: seen.append(threads(0)))
        other.start()
        other.join()
        assert seen == [2]


def photograph(seed: int, height: int = 60, width: int = 50) -> npt.NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    model = mask_rcnn.mask_rcnn_lite(CLASSES, few(mask_rcnn)).eval()
    images = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    rules = InputRules(scale=1.5, longest_side=256)
    info = ModelInfo("mask_rcnn_lite", CLASSES, rules, settings_of(model), score_threshold=0.3, detection_limit=8)
    return Predictor(enliven(model, images), info, CPU)


def numbers(objects: Instances) -> list[torch.Tensor]:
    assert objects.masks is not None
    assert objects.masks.soft is not None
    return [objects.boxes_xyxy, objects.scores, objects.labels, *objects.masks.soft.maps, *objects.masks.crops]


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_neighbours_and_workers_change_nothing(predictor: Predictor, precision: Any) -> None:
    predictor = predictor.on(TorchBackend(predictor.model, CPU, precision))
    images = [photograph(k, 60 + 10 * (k % 3), 50 + 10 * (k % 4)) for k in range(9)]
    expected = []
    torch.set_num_threads(1)  # what each worker has
    for image in images:
        expected.append(predictor.predict(image))
    torch.set_num_threads(2)
    found = list(predictor.predict_many(iter(images)))
    backwards = list(predictor.predict_many(images[::-1]))[::-1]
    assert sum(len(one) for one in found) > 20
    for objects, same, alike in zip(expected, found, backwards, strict=True):
        assert objects.size_hw == same.size_hw == alike.size_hw
        for a, b, c in zip(numbers(objects), numbers(same), numbers(alike), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, c)


@pytest.mark.usefixtures("two_threads")
def test_another_number_of_threads_rounds_at_most(predictor: Predictor) -> None:
    exact = predictor.on(TorchBackend(predictor.model, CPU, "fp32"))
    images = [photograph(k) for k in range(4)]
    for alone, among in zip([exact.predict(one) for one in images], exact.predict(images), strict=True):
        assert len(alone) == len(among)
        torch.testing.assert_close(among.boxes_xyxy, alone.boxes_xyxy, atol=1e-2, rtol=0)
        torch.testing.assert_close(among.scores, alone.scores, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("two_threads")
def test_large_images_among_small_ones(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "LARGE_PX", 90 * 90)
    images = [photograph(k, 120 if k in (1, 2, 5) else 60) for k in range(7)]
    here, looked_at = threading.get_ident(), []
    real = Predictor.predict

    def watched(self: Predictor, image: Any, **how: Any) -> Any:
        looked_at.append((image.shape[0], threading.get_ident() == here))
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", watched)
    found = list(predictor.predict_many(images))
    assert [one.size_hw[0] for one in found] == [60, 120, 120, 60, 60, 120, 60]
    assert set(looked_at) == {(60, False), (120, True)}


def test_which_images_are_large() -> None:
    assert not is_large((520, 696), InputRules(scale=3.0))
    assert is_large((800, 800), InputRules(scale=3.0))
    assert not is_large((1200, 1600), InputRules())
    assert is_large((3000, 4000), InputRules())


@pytest.mark.usefixtures("two_threads")
def test_one_image_has_all_processors(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    real = Predictor.predict

    def watched(self: Predictor, image: Any, **how: Any) -> Any:
        threads.append(torch.get_num_threads())
        return real(self, image, **how)

    monkeypatch.setattr(Predictor, "predict", watched)
    list(predictor.predict_many([photograph(0)]))
    list(predictor.predict_many([photograph(0), photograph(1)]))
    list(predictor.predict_many(iter([photograph(0)])))  # nobody knows how many there will be
    assert threads == [2, 1, 1, 1]


def test_an_unusable_image_ends_it_in_its_place(predictor: Predictor, tmp_path: Path) -> None:
    found = predictor.predict_many([photograph(0), tmp_path / "missing.png", photograph(1)])
    assert next(found).size_hw == (60, 50)
    with pytest.raises(ImageError, match="missing"):
        next(found)
    with pytest.raises(ArgumentError, match="must be"):
        list(predictor.predict_many([photograph(0), photograph(1)], threshold=2.0))


@pytest.mark.usefixtures("two_threads")
def test_what_cannot_be_read_is_told_in_its_place(predictor: Predictor) -> None:
    def read(k: int) -> npt.NDArray[np.uint8]:
        if k % 3 == 1:
            raise ImageError(f"number {k}")
        return photograph(k)

    found = list(predictor.predict_in_order(range(6), read))
    assert [k for k, _ in found] == list(range(6))
    for k, future in found:
        if k % 3 == 1:
            with pytest.raises(ImageError, match=f"number {k}"):
                future.result()
        else:
            assert future.result().size_hw == (60, 50)


@pytest.mark.usefixtures("two_threads")
def test_a_first_pass_is_not_disturbed_while_it_takes_its_time(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "prefilter", object())
    threads = []

    def noticed(*_: Any, **__: Any) -> Instances:
        threads.append(torch.get_num_threads())
        return Instances((1, 1), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), CLASSES)

    monkeypatch.setattr(predictor, "predict", noticed)
    list(predictor.predict_many([photograph(0), photograph(1)]))
    assert threads == [2, 2]


class Busy(TorchBackend):
    """Notices when it runs twice at a time."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor.model, CPU)
        self.counting, self.running, self.most = threading.Lock(), 0, 0

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        with self.counting:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.005)
        outputs = super().run(batch, limits)
        with self.counting:
            self.running -= 1
        return outputs


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("images_at_once", "at_once"), [(1, 2), (4, 1)], ids=["CPU", "accelerator"])
def test_one_network_at_a_time_on_an_accelerator(predictor: Predictor, images_at_once: int, at_once: int) -> None:
    backend = Busy(predictor)
    backend.images_at_once = images_at_once
    assert len(list(predictor.on(backend).predict_many([photograph(k) for k in range(8)]))) == 8
    assert backend.most == at_once


def test_a_list_is_like_each_image(predictor: Predictor) -> None:
    assert predictor.predict([]) == []
    assert [one.size_hw for one in predictor.predict([photograph(0), photograph(1, 80)])] == [(60, 50), (80, 50)]


def test_settings_stay(predictor: Predictor) -> None:
    strict = replace(predictor.info, detection_limit=2)
    few_objects = Predictor(predictor.model, strict, CPU).predict([photograph(0), photograph(1)])
    assert [len(one) for one in few_objects] == [2, 2]
