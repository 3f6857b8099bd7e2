"""torchvision's suppression without the rest of torchvision, which takes as long to import as torch."""

from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor


def nms(boxes_xyxy: Float[Tensor, "n 4"], scores: Float[Tensor, "n"], iou_threshold: float) -> Int[Tensor, "k"]:
    """Greedy non-maximum suppression: indices of the boxes that overlap no better one, by descending score.

    Does not export: for that, the whole of torchvision has to be there.
    """
    kept: Tensor = torch.ops.torchvision.nms(boxes_xyxy, scores, iou_threshold)
    return kept


def _load_operators() -> None:
    """Make `torch.ops.torchvision` work. It does no harm if torchvision is imported as well, before or after."""
    package = find_spec("torchvision")  # finds it, and imports nothing
    library = package and PathFinder.find_spec("_C", package.submodule_search_locations)
    try:
        if not library or not library.origin:
            raise ImportError("torchvision has no library where it used to be")
        torch.ops.load_library(library.origin)
    except (ImportError, OSError):  # torchvision knows best where its library is and what it needs
        import torchvision  # noqa: F401


_load_operators()
