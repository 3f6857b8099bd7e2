"""Masks that are finer where it matters: PointRend (Kirillov et al. 2020, arXiv:1912.08193).

A coarse mask is enlarged step by step. After each step a small network looks again at the points that are least
certain, which lie along the outline, and decides them from the finest features there and from the coarse mask.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.point_losses import PointPlan
from halfpixel.ops.point_sample import point_sample
from halfpixel.ops.roi_align import FeatureTable, roi_align
from halfpixel.ops.rows import in_chunks
from halfpixel.structures.targets import Targets

REGIONS_AT_ONCE = 32
"""Of which points are looked at together: memory does not grow with the number of objects."""

POINT_CHOICE = 2
"""The random choice of `Targets.generator` that is made here."""


class CoarseMaskHead(nn.Module):
    """One mask of 7 x 7 cells for each class in every region (section 4.1): layers like those of the box head.

    Args:
        channels: of the crops.
        classes: without the background.
        width: of the fully connected layers.
    """

    def __init__(self, channels: int, classes: int, width: int = 1024) -> None:
        super().__init__()
        self.width = width
        self.reduce = nn.Conv2d(channels, channels, 2, 2)
        self.fcs = nn.ModuleList([nn.Linear(channels * 7 * 7, width), nn.Linear(width, width)])
        nn.init.kaiming_normal_(self.reduce.weight, mode="fan_out", nonlinearity="relu")
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the layer that depends on the classes by a new one."""
        self.logits = nn.Linear(self.width, classes * 7 * 7)
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)

    def forward(self, crops: Float[Tensor, "n c 14 14"]) -> Float[Tensor, "n k 7 7"]:
        """Logits of every class, in float32."""
        hidden = self.reduce(crops).relu_().flatten(1)
        for fc in self.fcs:
            hidden = fc(hidden).relu_()
        masks: Tensor = self.logits(hidden).float().unflatten(1, (-1, 7, 7))
        return masks


class PointHead(nn.Module):
    """What a single point shows, from the finest features and the coarse masks there (section 3.3).

    Args:
        channels: of the features.
        classes: without the background.
        width: of the three layers.
        side: cells along a side of the refined masks: those of the coarse ones, doubled some times.
        points: looked at after each step.
        plan: the points that are trained on (section 3.1).
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        width: int = 256,
        side: int = 224,
        points: int = 784,
        plan: PointPlan = PointPlan(196),  # noqa: B008
    ) -> None:
        super().__init__()
        self.side, self.points, self.plan = side, points, plan
        self.inputs = (channels, width, width)
        self.fcs = nn.ModuleList(nn.Linear(inputs + classes, width) for inputs in self.inputs)
        for fc in self.fcs:
            assert isinstance(fc, nn.Linear)
            nn.init.kaiming_normal_(fc.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(fc.bias)
        self._set_logits(width, classes)

    @property
    def output_layers(self) -> tuple[str, ...]:
        """See `Network.output_layers`: all of its layers, since they see the masks of all classes."""
        return (*(f"fcs.{k}" for k in range(len(self.fcs))), "logits")

    def _set_logits(self, width: int, classes: int) -> None:
        self.logits = nn.Linear(width + classes, classes)
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)

    def set_classes(self, classes: int) -> None:
        """New last layer; of the others, which see the masks of all classes, what looks at features is kept."""
        for k, inputs in enumerate(self.inputs):
            old = self.fcs[k]
            assert isinstance(old, nn.Linear)
            new = nn.Linear(inputs + classes, old.out_features)
            nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
            with torch.no_grad():
                new.weight[:, :inputs] = old.weight[:, :inputs].to(new.weight)
                new.bias.copy_(old.bias)
            self.fcs[k] = new
        self._set_logits(self.inputs[-1], classes)

    def forward(self, fine: Float[Tensor, "m c"], coarse: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Logits of every class in each point; the coarse ones are looked at before every layer."""
        hidden = fine
        for fc in self.fcs:
            hidden = fc(torch.cat([hidden, coarse], 1)).relu()
        logits: Tensor = self.logits(torch.cat([hidden, coarse], 1)).float()
        return logits

    def refined(
        self,
        coarse: Float[Tensor, "n k s s"],
        labels: Int[Tensor, "n"],
        boxes_xyxy: Float[Tensor, "n 4"],
        image_index: Int[Tensor, "n"],
        features: FeatureTable,
    ) -> Float[Tensor, "n side side"]:
        """Logits of each region's own class: subdivision inference (section 3.1). Exports.

        Args:
            coarse: logits of every class in each region.
            labels: the class that each region is of.
            boxes_xyxy: what the masks cover, in pixels of the input.
            image_index: which image each is on.
            features: of the pyramid; the finest level is looked at.
        """
        rows = in_chunks(REGIONS_AT_ONCE, coarse, labels, boxes_xyxy, image_index)
        return torch.cat([self._refined(features, *some) for some in rows])

    def _refined(
        self, features: FeatureTable, coarse: Tensor, labels: Tensor, boxes_xyxy: Tensor, image_index: Tensor
    ) -> Tensor:
        logits, side = of_class(coarse, labels)[:, None], coarse.shape[2]
        while side < self.side:
            logits = nn.functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
            side *= 2
            if 4 * side**2 <= self.points and side < self.side:
                continue  # after the next step every cell is looked at
            flat = logits.flatten(1)
            cells = (-flat.abs()).topk(min(self.points, side**2), dim=1).indices
            places = (torch.stack([cells % side, cells // side], 2).to(boxes_xyxy) + 0.5) / side
            seen = self._look(places, coarse, boxes_xyxy, image_index, features)
            chosen = seen.gather(2, labels[:, None, None].expand(-1, seen.shape[1], 1))[:, :, 0]
            logits = flat.scatter(1, cells, chosen.to(flat.dtype)).unflatten(1, (side, side))[:, None]
        return logits[:, 0]

    def _look(
        self,
        places: Float[Tensor, "n p 2"],
        coarse: Float[Tensor, "n k s s"],
        boxes_xyxy: Float[Tensor, "n 4"],
        image_index: Int[Tensor, "n"],
        features: FeatureTable,
    ) -> Float[Tensor, "n p k"]:
        """Logits in points given as shares (x, y) of the boxes' sides."""
        points = in_pixels(places, boxes_xyxy).flatten(0, 1)
        index = image_index[:, None].expand(-1, places.shape[1]).flatten()
        # a region without extent is a point
        without_extent = torch.cat([points, points], 1)
        fine = roi_align(features, without_extent, index, torch.zeros_like(index), STRIDES, 1, sampling=1).flatten(1)
        masks = in_masks(coarse, places).transpose(1, 2).flatten(0, 1)
        logits: Tensor = self(fine, masks.to(fine.dtype))
        by_region: Tensor = logits.unflatten(0, (places.shape[0], places.shape[1]))
        return by_region

    def loss_sum(
        self,
        coarse: Float[Tensor, "n k s s"],
        labels: Int[Tensor, "n"],
        regions: Sequence[Float[Tensor, "_ 4"]],
        shown: Sequence[Int[Tensor, "_"]],
        features: FeatureTable,
        targets: Sequence[Targets],
    ) -> Float[Tensor, ""]:
        """Binary cross-entropy of the true class in points, averaged over each region's points and summed over regions.

        Args:
            coarse: logits of every class in the regions of all images.
            labels: their true classes.
            regions: of each image, in pixels of the input.
            shown: the object that each shows.
            features: of the pyramid.
            targets: of each image.
        """
        drawn = [
            torch.rand(len(one), self.plan.candidates + self.plan.anyway, 2, generator=t.generator(POINT_CHOICE))
            for one, t in zip(regions, targets, strict=True)
        ]
        places, boxes_xyxy = torch.cat(drawn).to(coarse.device), torch.cat(list(regions))
        guesses = in_masks(of_class(coarse.detach(), labels)[:, None], places)
        chosen = self.plan.choose(guesses[:, 0])
        places = places.gather(1, chosen[:, :, None].expand(-1, -1, 2))
        index = torch.cat([torch.full_like(one, k) for k, one in enumerate(shown)])
        logits = self._look(places, coarse, boxes_xyxy, index, features)
        logits = logits.gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1))[:, :, 0]
        points = in_pixels(places, boxes_xyxy).split([len(one) for one in shown])
        truths = [t.masks_in_points(k, xy) for t, k, xy in zip(targets, shown, points, strict=True)]
        total = nn.functional.binary_cross_entropy_with_logits(logits, torch.cat(truths).to(logits), reduction="sum")
        return total / self.plan.points


def of_class(masks: Float[Tensor, "n k s s"], labels: Int[Tensor, "n"]) -> Float[Tensor, "n s s"]:
    """Each region's mask of its own class: class and mask are decoupled (Mask R-CNN, section 3)."""
    return masks[torch.arange(labels.shape[0], device=labels.device), labels]


def in_masks(masks: Float[Tensor, "n k s s"], places: Float[Tensor, "n p 2"]) -> Float[Tensor, "n k p"]:
    """Masks in points given as shares of their sides; half a cell before the edge they begin to fade to 0."""
    return point_sample(nn.functional.pad(masks, (1, 1, 1, 1)), places.to(masks.dtype) * masks.shape[2] + 1)


def in_pixels(places: Float[Tensor, "n p 2"], boxes_xyxy: Float[Tensor, "n 4"]) -> Float[Tensor, "n p 2"]:
    """Points given as shares of boxes' sides, in the pixels of the boxes."""
    low, high = boxes_xyxy[:, None, :2], boxes_xyxy[:, None, 2:]
    return low + places.to(boxes_xyxy.dtype) * (high - low)
