"""What the runtimes of exported files have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from halfpixel.engine.backends.base import Backend, ComputePrecision
from halfpixel.errors import ModelFileError, reason
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.zoo.foreign.graph_file import Arrays

PRECISION = "halfpixel_precision"
"""The name under which a file says what its convolutions compute in."""

PRECISIONS: dict[str, ComputePrecision] = {"fp32": "fp32", "int8": "int8"}
"""Of files. Neither runtime computes in fewer bits unless the file says so."""


class ExportedBackend(Backend):
    """Runs the graph of a file, one image after the other.

    Attributes:
        metadata: what the file holds besides the graph.
        path: the file.
        inputs: of the graph, by name.
        outputs: likewise.
    """

    metadata: Mapping[str, str]
    path: Path
    inputs: Sequence[str]
    outputs: Sequence[str]

    def _describe(self, metadata: Mapping[str, str]) -> None:
        """Take what the file says of itself."""
        self.metadata = metadata
        self.precision = PRECISIONS.get(metadata.get(PRECISION, ""), "fp32")

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        found = [self._of_image(batch, k, limits) for k in range(len(batch))]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def _of_image(self, batch: ImageBatch, k: int, limits: Limits) -> Outputs:
        outputs = self.graph(graph_inputs(batch, k, limits))
        tensors = {name: torch.from_numpy(array) for name, array in outputs.items()}
        if "image_index" in tensors:
            tensors["image_index"] = tensors["image_index"] + k
        return tensors

    def graph(self, inputs: Arrays) -> Arrays:
        """The outputs of the graph under their names; may be called from several threads at once.

        Raises:
            ModelFileError: it cannot run on these inputs.
        """
        try:
            return self._run(inputs)
        except Exception as error:  # of many classes that have no common base
            why = reason(error, last_line=True)
            raise ModelFileError(f"{self.path}: {self.name} cannot run it ({why})") from error

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays:
        """The outputs of the graph under their names, in memory of their own."""


GRAPH_INPUTS = frozenset(("image", "size_hw", "score_threshold", "detection_limit"))


def graph_inputs(batch: ImageBatch, k: int, limits: Limits) -> Arrays:
    """What the graph is given for one image of a batch."""
    return {
        "image": np.ascontiguousarray(batch.tensor[k : k + 1].float().numpy()),
        "size_hw": batch.sizes_hw[k : k + 1].numpy(),
        "score_threshold": limits.score_threshold.float().numpy(),
        "detection_limit": limits.detections.long().numpy(),
    }
