"""The second stage of a two-stage detector: what is in a region, and where exactly."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import Norm, conv_stack
from halfpixel.nn.decoding import Found, detections
from halfpixel.nn.losses import mean_count, smooth_l1_sum
from halfpixel.ops import boxes
from halfpixel.ops.finite import is_finite
from halfpixel.structures.images import Limits

BOX_WEIGHTS = (10.0, 5.0)
"""The deltas of a RoI's centre and side are learnt multiplied by these, which brings them to about one."""


class BoxHead(nn.Module):
    """Class and box of every RoI, from its crop of 7 x 7 cells (Girshick 2015, arXiv:1504.08083).

    Args:
        channels: of the crops.
        classes: without the background.
        fcs: widths of the fully connected layers.
        convs: of the 3 x 3 convolutions before them.
        norm: normalisation after each convolution, if any.
    """

    def __init__(
        self, channels: int, classes: int, fcs: tuple[int, ...], convs: tuple[int, ...] = (), norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.convs = conv_stack(channels, convs, norm)
        inputs = (convs[-1] if convs else channels) * 7 * 7
        self.features = fcs[-1]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in zip((inputs, *fcs), fcs, strict=False))
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the two layers that depend on the classes by new ones."""
        self.logits = nn.Linear(self.features, 1 + classes)
        self.deltas = nn.Linear(self.features, 4 * (1 + classes))

    def forward(self, crops: Float[Tensor, "n c 7 7"]) -> tuple[Tensor, Tensor]:
        """Logits `[n, 1 + classes]` (background first) and box regression deltas `[n, 1 + classes, 4]`, float32."""
        hidden = self.convs(crops).flatten(1)
        for fc in self.fcs:
            hidden = fc(hidden).relu_()
        return self.logits(hidden).float(), self.deltas(hidden).float().unflatten(1, (-1, 4))

    def losses(
        self, logits: Float[Tensor, "n _"], deltas: Float[Tensor, "n _ 4"], truth: Int[Tensor, "n"], wanted: Tensor
    ) -> dict[str, Float[Tensor, ""]]:
        """`class` and `box` (Fast R-CNN, equations 1 to 3), both averaged over all RoIs.

        Args:
            logits: of `forward`.
            deltas: of `forward`.
            truth: 0 for background, k + 1 for class k.
            wanted: `[p, 4]` the true deltas of the RoIs that show an object.
        """
        count = mean_count(len(truth), truth.device)
        positive = torch.nonzero(truth > 0).ravel()
        return {
            "class": nn.functional.cross_entropy(logits, truth, reduction="sum") / count,
            "box": smooth_l1_sum(deltas[positive, truth[positive]], wanted) / count,
        }


def detect(
    rois_xyxy: Float[Tensor, "n 4"],
    logits: Float[Tensor, "n _"],
    deltas: Float[Tensor, "n _ 4"],
    size_hw: Int[Tensor, "2"],
    limits: Limits,
    iou_threshold: float,
) -> Found:
    """Detections of one image: every RoI may become one of each class.

    Args:
        rois_xyxy: in pixels of the input.
        logits: of `BoxHead.forward`.
        deltas: of `BoxHead.forward`.
        size_hw: the image inside its padding, to which boxes are clipped.
        limits: score threshold and detection limit.
        iou_threshold: detections of one class overlapping a better one's box by more than this are suppressed.
    """
    scores = logits.softmax(dim=1)[:, 1:]
    decoded = boxes.decode(deltas, rois_xyxy[:, None], BOX_WEIGHTS)[:, 1:]
    return detections(scores, decoded, size_hw, limits, iou_threshold, is_finite(logits, deltas))
