"""Rows: what there is of each object or region of a batch, all images one after the other."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def images_of(rows: Sequence[Tensor]) -> Int[Tensor, "n"]:
    """Which image each row of the concatenation comes from."""
    return torch.cat([torch.full((r.shape[0],), k, dtype=torch.int64, device=r.device) for k, r in enumerate(rows)])


def in_chunks(size: int, *rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """So many rows of each tensor at a time, at least one chunk.

    All at once while a graph is exported: it would hold as many chunks as the example had.
    """
    if torch.compiler.is_exporting():
        return iter([rows])
    return zip(*(tensor.split(size) for tensor in rows), strict=True)
