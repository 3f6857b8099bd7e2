"""A small query model, as those of Carion et al. 2020 (arXiv:2005.12872): no anchors, no suppression.

It is here to show that a model is one file: `conftest.py` puts this folder on the path of `halfpixel.models`, and
nothing else knows of it. Boxes, scores and a kernel for each object stand beside maps that all objects share, and an
object's mask is its kernel applied to them inside its box.

Deviations: queries are the best cells of a coarse map instead of learnt ones; there is no attention.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.conv_blocks import ConvBlock
from halfpixel.nn.decoding import detections
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.losses import mean_count
from halfpixel.nn.network import Outputs
from halfpixel.ops.finite import is_finite
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.targets import Targets

FINE, COARSE = 4, 16


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        queries: so many cells may become objects.
        kernel: channels of the shared maps.
    """

    queries: int = 40
    kernel: int = 8


class ToyQuery(KernelNetwork):
    """The network."""

    RECIPE: Mapping[str, object] = {"learning_rate": 2e-3}

    output_layers = ("logits", "deltas", "kernels", "maps")
    map_stride = FINE

    def __init__(self, class_names: Sequence[str], settings: Settings) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone = EfficientNetLite(0.5, outputs=(1, 3))
        fine, coarse = self.backbone.channels
        self.hidden = ConvBlock(coarse, 64)
        self.finer = ConvBlock(fine + 64, 32)
        self.deltas = nn.Conv2d(64, 4, 1)
        self.kernels = nn.Conv2d(64, settings.kernel, 1)
        self.maps = nn.Conv2d(32, settings.kernel, 1)
        self.set_classes(len(class_names))

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`."""
        self.logits = nn.Conv2d(64, classes, 1)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, -2.0)

    def _said(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of every coarse cell class logits, box and kernel, `[b, cells, _]`; and the shared maps."""
        fine, coarse = self.backbone(images)
        hidden = self.hidden(coarse)
        upsampled = nn.functional.interpolate(hidden, scale_factor=COARSE // FINE, mode="nearest")
        maps = self.maps(self.finer(torch.cat([fine, upsampled], 1))).float()
        logits, deltas, kernels = (
            layer(hidden).flatten(2).transpose(1, 2).float() for layer in (self.logits, self.deltas, self.kernels)
        )
        rows, columns = coarse.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(rows, device=images.device), torch.arange(columns, device=images.device), indexing="ij"
        )
        cells = torch.stack([x.flatten(), y.flatten()], 1) + 0.5
        centres = COARSE * (cells + deltas[..., :2].tanh())
        half = COARSE * deltas[..., 2:].clamp(-3, 3).exp() / 2
        return logits, torch.cat([centres - half, centres + half], 2), kernels, maps

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """See `Network.forward`."""
        logits, boxes_xyxy, kernels, maps = self._said(images)
        found = []
        for k, size_hw in enumerate(sizes_hw):
            scores, queries = logits[k].sigmoid().amax(1).topk(torch.sym_min(self.settings.queries, logits.shape[1]))
            finite = is_finite(logits[k], boxes_xyxy[k])
            of_queries = logits[k, queries].sigmoid()
            best = torch.where(of_queries == scores[:, None], of_queries, 0.0)  # one class each
            one = detections(best, boxes_xyxy[k, queries], size_hw, limits, None, finite)
            exhausted = (scores > limits.score_threshold.to(scores.device)).all()
            found.append(one._replace(sources=queries[one.sources], saturated=one.saturated | exhausted))
        return self.as_outputs(found, [kernels[k, one.sources] for k, one in enumerate(found)], maps)

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """`class`, `box` and `mask`; each object is one cell's, by the assignment that costs least."""
        logits, boxes_xyxy, kernels, maps = self._said(images.tensor)
        input_hw, grid_hw = images.tensor.shape[2:], maps.shape[2:]
        wanted, box_terms, mask_terms = torch.zeros_like(logits), [logits.sum() * 0], [logits.sum() * 0]
        for k, target in enumerate(targets):
            truth, labels = target.boxes_xyxy.to(logits), target.labels.to(logits.device)
            distance = torch.cdist(boxes_xyxy[k], truth, p=1) / COARSE
            cost = distance - 2 * logits[k].sigmoid()[:, labels]
            cells, objects = (torch.as_tensor(one) for one in linear_sum_assignment(cost.detach().cpu().numpy()))
            wanted[k, cells, labels[objects]] = 1
            box_terms.append((boxes_xyxy[k, cells] - truth[objects]).abs().sum() / COARSE)
            grids = target.masks_on((grid_hw[0], grid_hw[1]), (input_hw[0], input_hw[1]))[objects].to(logits)
            said = torch.einsum("nc,chw->nhw", kernels[k, cells], maps[k])
            cross = nn.functional.binary_cross_entropy_with_logits(said, grids, reduction="none")
            near = _inside(boxes_xyxy[k, cells].detach(), grid_hw) | (grids > 0)
            mask_terms.append(((cross * near).sum((1, 2)) / near.sum((1, 2)).clamp(min=1)).sum())
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        focal = (entropy * (wanted - logits.sigmoid()).abs().detach()).sum()
        count = mean_count(sum(len(target) for target in targets), logits.device)
        return {
            "class": 4 * focal / count,
            "box": torch.stack(box_terms).sum() / count,
            "mask": sum(mask_terms) / count,
        }


def _inside(boxes_xyxy: Tensor, grid_hw: Sequence[int]) -> Tensor:
    """Which cells of the fine map lie in each box."""
    y, x = (FINE * (torch.arange(n, device=boxes_xyxy.device) + 0.5) for n in grid_hw)
    x0, y0, x1, y1 = boxes_xyxy[:, :, None, None].unbind(1)
    return (x >= x0) & (x < x1) & (y[:, None] >= y0) & (y[:, None] < y1)


def toy_query(class_names: Sequence[str], settings: Settings | None = None) -> ToyQuery:
    """The only variant."""
    return ToyQuery(class_names, settings or Settings())


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], ToyQuery]] = {"toy_query": toy_query}
