"""A network as an ONNX graph."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from halfpixel.engine.backends.folding import folded
from halfpixel.errors import MissingDependencyError
from halfpixel.nn.network import Network
from halfpixel.structures.images import Limits

MOST_CELLS = 4096
"""An image may be so many times the divisor high or wide: the exporter wants a bound."""

HINT = 'exporting needs more libraries: pip install "halfpixel[export]"'


class Graph(nn.Module):
    """A network with tensors for all inputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, size_hw: Tensor, score_threshold: Tensor, detection_limit: Tensor
    ) -> dict[str, Tensor]:
        """See `Network.forward`."""
        outputs: dict[str, Tensor] = self.network(image, size_hw, Limits(score_threshold, detection_limit))
        return outputs


def onnx_graph(network: Network, divisor: int) -> Any:
    """A network as an `onnx.ModelProto` for one image of any size.

    Its nodes are named after the module that they belong to, `network.backbone.conv_stem/...`.

    Args:
        network: its weights are copied.
        divisor: sides of images are multiples of this.

    Raises:
        MissingDependencyError: the exporter is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(HINT) from error
    graph = Graph(folded(network).to("cpu")).eval()
    given = (
        torch.zeros(1, 3, 8 * divisor, 10 * divisor),
        torch.tensor([[8 * divisor, 10 * divisor]]),
        torch.tensor(0.5),
        torch.tensor(100),
    )
    rows, columns = (torch.export.Dim(name, min=1, max=MOST_CELLS) for name in ("rows", "columns"))
    shapes = dict.fromkeys(("size_hw", "score_threshold", "detection_limit"))
    with quiet(), torch.no_grad():
        names = list(graph(*given))
        dynamic = {"image": {2: divisor * rows, 3: divisor * columns}, **shapes}
        program = torch.export.export(graph, given, dynamic_shapes=dynamic, strict=False)
        exported = torch.onnx.export(program, dynamo=True, output_names=names, verbose=False, optimize=False)
        assert exported is not None
        _simplify(exported.model)
    for k, node in enumerate(exported.model.graph.all_nodes()):
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
        module = [name for name in scopes.strip("[]").replace("'", "").split(", ") if name][:-1]
        node.name = f"{module[-1] if module else 'network'}/{node.op_type}_{k}"
        node.metadata_props.clear()  # they name files of the machine that it was exported on
    return exported.model_proto


def _simplify(model: Any) -> None:
    """What the exporter's own optimiser does, without looking for patterns, which takes it most of the time."""
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    for _ in range(2):
        fold_constants(model)
        common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters speak to their own developers: of deprecations, of what could not be folded."""
    with silent("onnxscript", "onnx_ir", "torch.onnx", "torch.export"), warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield


@contextlib.contextmanager
def silent(*names: str) -> Iterator[None]:
    """Let some loggers report nothing but errors."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
