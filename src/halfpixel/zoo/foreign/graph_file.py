"""What a file with a graph says of itself, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        shape: as declared; None for what may vary.
        type: of its numbers, as ONNX Runtime says it: `tensor(float)`.
    """

    shape: tuple[int | None, ...]
    type: str

    def __str__(self) -> str:
        return f"{self.type} [{', '.join('?' if side is None else str(side) for side in self.shape)}]"


@dataclass(frozen=True)
class GraphFile:
    """A graph that can be run.

    Attributes:
        path: the file.
        inputs: by name.
        outputs: by name.
        metadata: what the file holds besides the graph.
        run: inputs by name to outputs by name.
    """

    path: Path
    inputs: Mapping[str, Port]
    outputs: Mapping[str, Port]
    metadata: Mapping[str, str]
    run: Callable[[Arrays], Arrays]
