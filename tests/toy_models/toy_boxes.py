"""Faster R-CNN (Ren et al. 2015, arXiv:1506.01497), small enough to train in a test.

Deviation: the parts of `mask_rcnn_lite`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN, Settings


def toy_boxes(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """As `mask_rcnn_lite`, of boxes alone."""
    whole = mask_rcnn.mask_rcnn_lite(class_names, settings or Settings())
    return MaskRCNN(class_names, whole.backbone, whole.pyramid, whole.rpn, whole.box_head, None, whole.settings)


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], MaskRCNN]] = {"toy_boxes": toy_boxes}
__all__ = ["VARIANTS", "Settings", "toy_boxes"]
