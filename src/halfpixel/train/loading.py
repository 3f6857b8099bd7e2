"""The batches of a run's steps, made by other processes where the network is on a GPU."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from halfpixel.train.augment.crops import Batch, Batches


def batches_of(micro_batches: Sequence[Batches], steps: range, processes: int) -> Iterator[list[Batch]]:
    """For each step its micro-batches.

    Args:
        micro_batches: each of a process's micro-batches, by the number of the step.
        steps: which ones.
        processes: how many make them; 0 for none but this one.
    """
    packed = processes > 0  # what stays in this process is handed on as it is
    loader = DataLoader(
        _Steps(micro_batches),
        batch_size=None,
        sampler=steps,
        num_workers=processes,
        collate_fn=_packed if packed else _unchanged,
    )
    for made in loader:
        yield pickle.loads(made) if packed else made


class _Steps(Dataset[list[Batch]]):
    """The micro-batches of each step."""

    def __init__(self, micro_batches: Sequence[Batches]) -> None:
        self.micro_batches = micro_batches

    def __getitem__(self, step: int) -> list[Batch]:
        return [batches[step] for batches in self.micro_batches]


def _unchanged(micro_batches: list[Batch]) -> list[Batch]:
    return micro_batches


def _packed(micro_batches: list[Batch]) -> bytes:
    """One string of bytes for all.

    torch would send each tensor through a file of its own, and a crowded crop has a mask for each of its objects:
    thousands of open files, more than a process may have.
    """
    file = io.BytesIO()
    _Packer(file, protocol=pickle.HIGHEST_PROTOCOL).dump(micro_batches)
    return file.getvalue()


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Tensors as arrays: their own numbers, without the rest of an image that they were cut from."""
        if type(value) is Tensor:
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented
