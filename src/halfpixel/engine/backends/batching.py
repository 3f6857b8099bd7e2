"""Images that come from several threads, together on one device."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from threading import Lock

import torch

from halfpixel.engine.backends.base import Backend
from halfpixel.nn.network import Axis, Outputs
from halfpixel.structures.images import ImageBatch, Limits, Resized


class BatchingBackend(Backend):
    """Runs one batch at a time, with all that came while the one before was running.

    Nobody waits for company: a batch that finds the device idle runs at once. What is put together has one padded size
    and the same limits, at most `images_at_once` images. Where that fails, for want of memory or by a fault of one of
    them, each runs on its own and has its own error.

    Args:
        backend: runs the batches.
        layout: `Network.layout` of what it runs.
    """

    def __init__(self, backend: Backend, layout: Mapping[str, Axis]) -> None:
        self.name, self.precision, self.images_at_once = backend.name, backend.precision, backend.images_at_once
        self._backend, self._layout = backend, layout
        self._waiting: list[_Request] = []
        self._queue, self._device = Lock(), Lock()

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        request = _Request(batch, limits)
        with self._queue:
            self._waiting.append(request)
        with self._device:
            if not request.outputs.done():  # nobody took it along
                self._run(self._with_others(request))
        return request.outputs.result()

    def close(self) -> None:
        """See `Backend.close`."""
        self._backend.close()

    def _with_others(self, first: _Request) -> list[_Request]:
        """A request and those that wait and fit, which then wait no more."""
        with self._queue:
            taken, room = [first], self.images_at_once - len(first.batch)
            for one in self._waiting:
                if one is not first and one.kind == first.kind and len(one.batch) <= room:
                    taken.append(one)
                    room -= len(one.batch)
            self._waiting = [one for one in self._waiting if one not in taken]
        return taken

    def _run(self, requests: Sequence[_Request]) -> None:
        try:
            batch = ImageBatch.concatenate([one.batch for one in requests])
            outputs = self._backend.run(batch, requests[0].limits)
        except Exception as error:
            if len(requests) == 1:
                requests[0].outputs.set_exception(error)
            else:
                for one in requests:
                    self._run([one])
            return
        start = 0
        for one in requests:
            one.outputs.set_result(of_images(outputs, self._layout, start, len(one.batch)))
            start += len(one.batch)


class _Request:
    """What one thread waits for."""

    def __init__(self, batch: ImageBatch, limits: Limits) -> None:
        self.batch, self.limits = batch, limits
        self.kind = (*batch.tensor.shape[1:], limits.score_threshold.item(), limits.detections.item())
        self.outputs: Future[Outputs] = Future()


def of_images(outputs: Outputs, layout: Mapping[str, Axis], start: int, n: int) -> Outputs:
    """What `Network.forward` would have given for `n` images of a batch, those from `start` on."""
    if "image_index" not in outputs:
        return {name: tensor[start : start + n] for name, tensor in outputs.items()}
    index = outputs["image_index"]
    rows = torch.nonzero((index >= start) & (index < start + n)).ravel()
    chosen = {
        name: tensor[rows] if layout[name] == "row" else tensor[start : start + n] for name, tensor in outputs.items()
    }
    return {**chosen, "image_index": chosen["image_index"] - start}


def alike(prepared: Iterable[tuple[ImageBatch, Resized]], most: int) -> Iterator[list[tuple[ImageBatch, Resized]]]:
    """At most so many at a time of those that follow one another and have one padded size."""
    for _, run in itertools.groupby(prepared, key=lambda one: one[0].tensor.shape):
        while group := list(itertools.islice(run, most)):
            yield group
