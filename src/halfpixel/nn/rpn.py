"""Region proposal network (Ren et al. 2015, arXiv:1506.01497)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.nn.anchors import anchor_boxes
from halfpixel.nn.conv_blocks import conv_stack
from halfpixel.nn.few_cells import in_pyramid
from halfpixel.nn.losses import mean_count, smooth_l1_sum
from halfpixel.nn.matching import BalancedSampler, match
from halfpixel.ops import boxes
from halfpixel.ops.finite import is_finite
from halfpixel.ops.paste import Alignment
from halfpixel.structures.targets import Targets

BOX_WEIGHTS = (1.0, 1.0)
SMALLEST_PX = 1e-3
ANCHOR_CHOICE = 0
"""The random choice of `Targets.generator` that is made here."""


@dataclass(frozen=True)
class AnchorPlan:
    """One anchor size for each pyramid level, in input pixels, and the shapes (height over width) of each size."""

    sizes: tuple[float, ...]
    strides: tuple[int, ...]
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)


class ScoredAnchors(NamedTuple):
    """Every anchor of a batch, level by level, and what the network says of it (float32)."""

    anchors_xyxy: list[Float[Tensor, "_ 4"]]
    logits: list[Float[Tensor, "b _"]]
    deltas: list[Float[Tensor, "b _ 4"]]


class ChosenAnchors(NamedTuple):
    """Those of a batch that the losses are taken on."""

    image_index: Int[Tensor, "n"]
    rows: Int[Tensor, "n"]
    """Which they are, all levels one after the other."""
    positive: Bool[Tensor, "n"]
    """Whether they match an object."""
    deltas: Float[Tensor, "p 4"]
    """Box regression deltas from those that do to their objects."""


class RegionProposalNetwork(nn.Module):
    """Where is something? Class-agnostic scores and box regression deltas of every anchor.

    Args:
        channels: of the pyramid.
        plan: the anchors.
        depth: 3 x 3 convolutions before the two predictions.
        alignment: where anchors are centred.
        iou_threshold: proposals overlapping a better one of their level by more than this are suppressed.
        score_threshold: proposals scoring less are not considered.
        samples: anchors an image that the losses are taken on, half of them objects at most.
        centre: where in its cell an anchor is, with half-pixel alignment: .5 the middle, 0 the first corner.
    """

    def __init__(
        self,
        channels: int,
        plan: AnchorPlan,
        depth: int = 1,
        alignment: Alignment = "half_pixel",
        iou_threshold: float = 0.7,
        score_threshold: float = 0.0,
        samples: int = 256,
        centre: float = 0.5,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.alignment, self.centre = alignment, centre
        self.iou_threshold = iou_threshold
        self.score_threshold = score_threshold
        self.sample = BalancedSampler(samples, 0.5)
        self.convs = conv_stack(channels, (channels,) * depth)
        self.objectness = nn.Conv2d(channels, len(plan.ratios), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(plan.ratios), 1)
        for layer in (self.objectness, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, pyramid: Sequence[Float[Tensor, "b c _ _"]], images: Float[Tensor, "b 3 h w"]) -> ScoredAnchors:
        """Score the anchors of all levels."""
        logits, deltas = [], []
        for features in pyramid:
            hidden = self.convs(features)
            logits.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1).float())
            flat = self.deltas(hidden).permute(0, 2, 3, 1).flatten(1).float()
            deltas.append(flat.unflatten(1, (-1, 4)))
        maps_hw = [(features.shape[2], features.shape[3]) for features in pyramid]
        image_hw, plan, where = (images.shape[2], images.shape[3]), self.plan, (self.alignment, images.device)
        anchors = anchor_boxes(maps_hw, image_hw, plan.sizes, plan.ratios, plan.strides, *where, self.centre)
        return ScoredAnchors(anchors, logits, deltas)

    @torch.no_grad()
    def propose(
        self, scored: ScoredAnchors, sizes_hw: Int[Tensor, "b 2"], per_level: int, most: int
    ) -> tuple[list[Float[Tensor, "_ 4"]], Int[Tensor, "b"]]:
        """The best proposals of each image.

        Args:
            scored: of `forward`.
            sizes_hw: true sizes of the images: proposals are clipped to them.
            per_level: anchors of each level that are considered.
            most: proposals kept.

        Returns:
            Proposals of each image, best first, and how many there were before the last cut; -1 where NaN or
            infinity was among the logits or deltas.
        """
        proposals, counts, finite = [], [], []
        for image, size_hw in enumerate(sizes_hw.to(scored.logits[0].device)):
            candidates, best_logits, best_deltas, levels = [], [], [], []
            for level, (anchors, logits, deltas) in enumerate(zip(*scored, strict=True)):
                best, rows = logits[image].topk(torch.sym_min(per_level, anchors.shape[0]))
                best_logits.append(best)
                best_deltas.append(deltas[image, rows])
                candidates.append(boxes.decode(best_deltas[-1], anchors[rows], BOX_WEIGHTS))
                levels.append(torch.full_like(rows, level))
            finite.append(is_finite(*best_logits, *best_deltas))
            proposal, level_of = boxes.clip(torch.cat(candidates), size_hw), torch.cat(levels)
            score = torch.cat(best_logits).sigmoid()
            usable = boxes.large_enough(proposal, SMALLEST_PX) & (score >= self.score_threshold)
            proposal, score, level_of = proposal[usable], score[usable], level_of[usable]
            kept = boxes.suppress(proposal, score, level_of, self.iou_threshold)
            proposals.append(proposal[kept[:most]])
            counts.append(kept.shape[0])
        return proposals, torch.where(torch.stack(finite), torch.tensor(counts, device=scored.logits[0].device), -1)

    def choose(self, anchors_xyxy: Sequence[Float[Tensor, "_ 4"]], targets: Sequence[Targets]) -> ChosenAnchors:
        """Some anchors of each image, those that match an object and some of the background."""
        anchors, parts = torch.cat(list(anchors_xyxy)), []
        for k, target in enumerate(targets):
            objects = target.boxes_xyxy.to(anchors)
            matches = match(anchors, objects, target.ignored_xyxy.to(anchors), 0.7, 0.3, low_quality=True)
            positive, negative = self.sample(matches, target.generator(ANCHOR_CHOICE))
            rows = torch.cat([positive, negative])
            wanted = boxes.encode(objects[matches[positive]], anchors[positive], BOX_WEIGHTS)
            is_positive = torch.arange(len(rows), device=rows.device) < len(positive)
            parts.append((torch.full_like(rows, k), rows, is_positive, wanted))
        return ChosenAnchors(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def say_again(
        self, pyramid: Sequence[Float[Tensor, "b c _ _"]], chosen: ChosenAnchors
    ) -> tuple[Float[Tensor, "n"], Float[Tensor, "n 4"]]:
        """Logits and box regression deltas of some anchors alone (float32): those of `forward`.

        A few hundred anchors of an image are trained on. Their gradient goes through their cells and not, as zeros,
        through all of the maps.
        """
        ratios = len(self.plan.ratios)
        hidden = in_pyramid([self.convs] * len(pyramid), pyramid, chosen.image_index, chosen.rows // ratios)
        cells = hidden[:, :, None, None]
        anchor = torch.arange(len(cells), device=cells.device), chosen.rows % ratios
        logits, deltas = self.objectness(cells).flatten(1), self.deltas(cells).flatten(1).unflatten(1, (ratios, 4))
        return logits[anchor].float(), deltas[anchor].float()

    def losses(
        self, logits: Float[Tensor, "n"], deltas: Float[Tensor, "n 4"], chosen: ChosenAnchors
    ) -> dict[str, Float[Tensor, ""]]:
        """`rpn_objectness` and `rpn_box`, both averaged over the anchors they are taken on.

        Args:
            logits: of the chosen anchors.
            deltas: likewise.
            chosen: of `choose`.
        """
        truth = chosen.positive.to(logits.dtype)
        objectness = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="sum")
        count = mean_count(len(logits), logits.device)
        box_loss = smooth_l1_sum(deltas[chosen.positive], chosen.deltas)
        return {"rpn_objectness": objectness / count, "rpn_box": box_loss / count}
