"""Several images at once: some are read and looked at while the caller writes the results of an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from threading import Barrier, Event, Semaphore, Thread
from typing import TypeVar

import torch

from halfpixel.data.images.prepare import network_size
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances

Item = TypeVar("Item")
Read = TypeVar("Read")
Result = TypeVar("Result")

AHEAD = 2
"""So many images more than there are workers are read, or wait for the caller."""

LARGE_PX = 4_000_000
"""An image of more pixels, as it is or as the network sees it, is looked at alone: its feature maps fill the memory,
and all processors have enough to do with it."""


def read_and_look(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    look: Callable[[Read], Instances],
    large: Callable[[Read], bool],
    workers: int,
) -> Iterator[tuple[Item, Future[Instances]]]:
    """The objects of images, in their order; all that fails, reading included, is raised by its image's future.

    Args:
        items: what stands for the images; gone through in a thread of its own.
        read: gives the pixels, and whatever else it takes to look at them, in that thread.
        look: finds the objects.
        large: whether an image is to be looked at alone.
        workers: so many images are looked at at once.
    """

    def loaded() -> Iterator[tuple[Item, Read | Exception]]:
        for item in items:
            try:
                pixels: Read | Exception = read(item)
            except Exception as error:
                pixels = error
            yield item, pixels

    def look_at(one: tuple[Item, Read | Exception]) -> Instances:
        if isinstance(one[1], Exception):
            raise one[1]
        return look(one[1])

    def alone(one: tuple[Item, Read | Exception]) -> bool:
        return workers == 1 or (not isinstance(one[1], Exception) and large(one[1]))

    threads = max(torch.get_num_threads() // workers, 1)
    for (item, _), future in in_order(loaded(), look_at, workers=workers, threads=threads, alone=alone):
        yield item, future


def is_large(size_hw: tuple[int, ...], rules: InputRules) -> bool:
    """Whether an image is to be looked at alone."""
    height, width = size_hw
    network_height, network_width = network_size((height, width), rules)[1]
    return max(height * width, network_height * network_width) > LARGE_PX


def in_order(
    items: Iterable[Item],
    function: Callable[[Item], Result],
    *,
    workers: int,
    threads: int,
    ahead: int = AHEAD,
    alone: Callable[[Item], bool] = lambda item: False,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Each item and the function's result, in order, worked out in other threads.

    At most `workers + ahead` items are in work or wait for the caller, beside the one that is read and the one that
    the caller has. A generator that is closed, for example by Ctrl-C, begins with nothing more, and ends when what is
    in work is done.

    Args:
        items: gone through in a thread of its own.
        function: may be called for several items at once.
        workers: so many items at once.
        threads: torch may use in each worker.
        ahead: see above.
        alone: whether the function is called while no other item is in work; it is then called in the caller's thread.

    Returns:
        Futures that are done: each has a result or what was raised.

    Raises:
        BaseException: what going through the items raises.
    """
    entries: _Entries[Item, Result] = SimpleQueue()
    room, turn, stopped = Semaphore(workers + ahead), Semaphore(0), Event()
    pool = ThreadPoolExecutor(workers, "halfpixel", _use_threads, (threads, torch.get_num_threads()))
    begun = Barrier(workers)  # while they begin, threads of others would get their number of processors
    wait([pool.submit(begun.wait) for _ in range(workers)])

    def begin(item: Item) -> Future[Result] | None:
        return None if alone(item) else pool.submit(function, item)

    given = (items, begin, entries, room, turn, stopped)
    reader = Thread(target=_hand_out, args=given, name="halfpixel-reader", daemon=True)
    reader.start()
    try:
        while (entry := entries.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            item, future = entry
            if future is None:  # all items before were fetched: no worker has anything to do
                future = _called(function, item)
                turn.release()
            wait([future])
            room.release()
            yield item, future
    finally:
        stopped.set()
        room.release()
        turn.release()
        pool.shutdown(cancel_futures=True)
        reader.join()


_Entries = SimpleQueue[tuple[Item, Future[Result] | None] | BaseException | None]
"""Items and what comes of them, None for those that the caller has to work out; at the end None or what was raised."""


def _hand_out(
    items: Iterable[Item],
    begin: Callable[[Item], Future[Result] | None],
    entries: _Entries[Item, Result],
    room: Semaphore,
    turn: Semaphore,
    stopped: Event,
) -> None:
    """Go through the items as far as there is room."""
    end = None
    try:
        for item in items:
            room.acquire()
            if stopped.is_set():
                break
            future = begin(item)
            entries.put((item, future))
            if future is None:
                turn.acquire()  # until the caller is through with it
    except BaseException as error:
        end = error
    entries.put(end)


def _called(function: Callable[[Item], Result], item: Item) -> Future[Result]:
    future: Future[Result] = Future()
    try:
        future.set_result(function(item))
    except Exception as error:
        future.set_exception(error)
    return future


def _use_threads(threads: int, default: int) -> None:
    """Let torch use so many threads in this one, and as many as before in those that are yet to come."""
    torch.get_num_threads()  # torch sets a thread's number when it is first asked for
    torch.set_num_threads(threads)
    restoring = Thread(target=torch.set_num_threads, args=(default,))  # the last number set is the default
    restoring.start()
    restoring.join()
