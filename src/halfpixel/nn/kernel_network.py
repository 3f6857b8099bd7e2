"""What networks share that say an object's mask as a small kernel for maps that all objects share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.nn.decoding import Found, RowRules, as_rows, of_image
from halfpixel.nn.network import Axis, Network, Outputs
from halfpixel.ops import boxes
from halfpixel.ops.assemble import assemble, linear_kernels
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances


class KernelNetwork(Network):
    """Rows with kernels, beside maps.

    A network whose maps do not begin with the image adds `origin_xy` to its outputs: where in the maps the image
    begins, in pixels of the input.

    Attributes:
        map_stride: of the maps, in pixels of the input.
        finer_masks: cells of an object's soft mask along a cell of the maps (see `halfpixel.ops.assemble`).
    """

    layout: Mapping[str, Axis] = {
        **dict.fromkeys(("boxes_xyxy", "scores", "labels", "image_index", "kernels"), "row"),
        "maps": "map",
        **dict.fromkeys(("candidates", "saturated"), "image"),
    }
    finer_masks: float = 2.0

    map_stride: int

    def apply_kernels(
        self, features: Float[Tensor, "n c h w"], kernels: Float[Tensor, "n k"], first_xy: Int[Tensor, "n 2"]
    ) -> Float[Tensor, "n h w"]:
        """Logits of some objects in windows of the maps, whose first cells are told; uses no weights."""
        return linear_kernels(features, kernels, first_xy)

    def as_outputs(self, found: Sequence[Found], kernels: Sequence[Float[Tensor, "_ k"]], maps: Tensor) -> Outputs:
        """What `forward` returns, from the detections of each image and their kernels."""
        return {
            **as_rows(found),
            "kernels": torch.cat(list(kernels)).float(),
            "maps": maps.float(),
            "candidates": torch.stack([one.candidates for one in found])[:, None],
            "saturated": torch.stack([one.saturated for one in found]),
        }

    @property
    def row_rules(self) -> RowRules:
        """How rows become objects: `mask_margin` and `mask_iou` are settings, where a network has them."""
        margin, iou = (getattr(self.settings, name, None) for name in ("mask_margin", "mask_iou"))
        return RowRules(self.class_names, ("detections",), mask_margin=margin or 0.0, mask_iou=iou)

    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """See `Network.decode`: each kernel is applied in its object's box alone."""
        outputs = {name: tensor.detach().cpu() for name, tensor in outputs.items()}
        rules = self.row_rules
        found = []
        for k, size in enumerate(sizes):
            rows = of_image(outputs, k)
            around = boxes.expand(outputs["boxes_xyxy"][rows].float(), rules.mask_margin)
            if "origin_xy" in outputs:
                around = around + outputs["origin_xy"][k].repeat(2)
            logits = assemble(
                outputs["maps"][k : k + 1].float(),
                outputs["kernels"][rows].float(),
                torch.zeros_like(rows),
                around,
                self.map_stride,
                self.apply_kernels,
                self.finer_masks,
            )
            soft = [one.sigmoid() for one in logits]
            found.append(rules.objects(outputs, k, size, limits.most, soft))
        return found
