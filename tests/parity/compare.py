"""Torchvision's Mask R-CNN with lively weights, and a comparison that explains every detection without a partner."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.ops import FrozenBatchNorm2d, box_iou

from halfpixel.engine.backends.base import Backend
from halfpixel.engine.backends.eager import for_inference
from halfpixel.engine.predictor import Predictor
from halfpixel.nn.box_head import detect
from halfpixel.nn.network import Network, Outputs
from halfpixel.nn.rpn import BOX_WEIGHTS, RegionProposalNetwork, ScoredAnchors
from halfpixel.ops import boxes
from halfpixel.ops.paste import paste_mask
from halfpixel.ops.roi_align import FeatureTable
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances

BUILDERS: dict[str, Callable[..., MaskRCNN]] = {"v1": maskrcnn_resnet50_fpn, "v2": maskrcnn_resnet50_fpn_v2}

BOX_PX = 0.02
SCORE = 2e-4
MASK = 1e-3
DECISION = 1e-4
"""How close to its threshold a decision must be for two implementations to be allowed to disagree on it."""

# Standard deviation that each predictor's outputs are given: enough for confident, doubtful and overlapping objects.
SPREADS = {
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 2.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
    "roi_heads.mask_predictor.mask_fcn_logits": 3.0,
}
HIDDEN_SPREAD = 1.0
"""For all other layers after the backbone. Without it every place looks alike to a random network, and stretching what
little difference is left to a useful spread would stretch the rounding errors as well."""


def lively_torchvision(
    variant: str, classes: int, image: Tensor, seed: int, frozen: bool = False, **options: object
) -> MaskRCNN:
    """Torchvision's network with seeded weights that find many different things on `image` `[3, h, w]`.

    Statistics of the normalisations are taken from the image; then each predictor is rescaled on it until its outputs
    have the spread given in SPREADS, the layers before it likewise. `classes` counts the background.
    With `frozen`, normalisations are torchvision's own frozen ones, as in the published weights of v1; they round a
    little differently from the usual ones, which ours equal to the last bit.
    """
    torch.manual_seed(seed)
    module = BUILDERS[variant](weights=None, weights_backbone=None, num_classes=classes, **options)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for name, norm in module.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            # small residual branches, as in trained networks: large random ones would make the body chaotic
            residual = name.endswith("bn3")
            nn.init.uniform_(norm.weight, 0.05 if residual else 0.5, 0.15 if residual else 1.0)
            nn.init.normal_(norm.bias, std=0.1)
            norm.momentum = 1.0
    module.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        module([image])
        module.eval()
        handles = [
            layer.register_forward_hook(_Rescale(SPREADS.get(name, HIDDEN_SPREAD)))
            for name, layer in module.named_modules()
            if isinstance(layer, Layer) and layer.bias is not None and ".body." not in name
        ]
        module([image])
        for handle in handles:
            handle.remove()
    if frozen:
        _freeze(module)
    return module


def _freeze(module: nn.Module) -> None:
    """Torchvision's own frozen normalisation, which its first variant is published with."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            _freeze(child)


Layer = nn.Conv2d | nn.Linear | nn.ConvTranspose2d


class _Rescale:
    """A hook that gives a layer's outputs, at its first call, mean 0 and a certain spread."""

    def __init__(self, spread: float) -> None:
        self.spread = spread
        self.done = False

    def __call__(self, layer: nn.Module, _inputs: object, output: Tensor) -> Tensor | None:
        if self.done:
            return None
        self.done = True
        assert isinstance(layer, Layer)
        assert layer.bias is not None
        flat = output.movedim(1, -1).reshape(-1, output.shape[1])
        mean, factor = flat.mean(dim=0), self.spread / flat.std(dim=0).clamp(min=1e-6)
        outputs_at = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
        layer.weight.mul_(factor.reshape([-1 if k == outputs_at else 1 for k in range(layer.weight.ndim)]))
        layer.bias.copy_((layer.bias - mean) * factor)
        shape = [1, -1] + [1] * (output.ndim - 2)
        return (output - mean.reshape(shape)) * factor.reshape(shape)


@dataclass
class Comparison:
    """What came of one image."""

    theirs: int = 0
    ours: int = 0
    paired: int = 0
    box_px: float = 0.0
    score: float = 0.0
    mask_pixels: int = 0
    explained: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def compare(theirs: dict[str, Tensor], ours: Instances, trace: Callable[[], Decisions]) -> Comparison:
    """Pair the detections of one image and account for all differences.

    Args:
        theirs: torchvision's output, masks `[n, 1, h, w]` as probabilities; labels from 1.
        ours: the same image.
        trace: gives what was decided on the way; called only when a detection has no partner.
    """
    result = Comparison(len(theirs["boxes"]), len(ours))
    pairs = _pair(theirs, ours)
    result.paired = len(pairs)
    assert ours.masks is not None
    assert ours.masks.soft is not None
    placed = list(ours.masks.placed())
    for k, j in pairs:
        box = float((theirs["boxes"][k] - ours.boxes_xyxy[j]).abs().max())
        score = float((theirs["scores"][k] - ours.scores[j]).abs())
        result.box_px, result.score = max(result.box_px, box), max(result.score, score)
        probability = theirs["masks"][k, 0]
        pixels, worst = _mask_difference(*placed[j], probability)
        result.mask_pixels += pixels
        if worst <= MASK:
            continue
        line = f"mask of detection {k}: differs where the probability is {worst:.2g} from one half"
        # boxes a hundredth of a pixel apart may be truncated to different pixels: paste ours into their box
        repasted, offset = paste_mask(
            ours.masks.soft.maps[j], tuple(theirs["boxes"][k].tolist()), ours.size_hw, "torchvision"
        )
        if _mask_difference(repasted > 0.5, offset, probability)[1] <= MASK:
            result.explained.append(f"{line}: the box's edge is truncated to another pixel, {box:.2g} px apart")
        else:
            result.faults.append(line)
    lonely = [("theirs", k) for k in range(result.theirs) if k not in {k for k, _ in pairs}]
    lonely += [("ours", j) for j in range(result.ours) if j not in {j for _, j in pairs}]
    if not lonely:
        return result
    decisions = trace()
    reasons: dict[tuple[str, int], str | None] = {}
    for side, k in lonely:
        box, score, label = _detection(theirs, ours, side, k)
        reasons[side, k] = decisions.explain(box, score, label)
    _cascade(theirs, ours, reasons, decisions)
    for (side, k), reason in reasons.items():
        line = f"{side} {k} (score {float(_detection(theirs, ours, side, k)[1]):.4f}): {reason}"
        (result.explained if reason else result.faults).append(line)
    return result


def _mask_difference(crop: Tensor, offset_xy: tuple[int, int], probability: Tensor) -> tuple[int, float]:
    """How many pixels differ, and how far from one half the probability is there at most."""
    canvas = torch.zeros(probability.shape, dtype=torch.bool)
    x, y = offset_xy
    canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    different = canvas != (probability > 0.5)
    return int(different.sum()), float((probability[different] - 0.5).abs().max()) if different.any() else 0.0


def _pair(theirs: dict[str, Tensor], ours: Instances) -> list[tuple[int, int]]:
    pairs, taken = [], torch.zeros(len(ours), dtype=torch.bool)
    for k in range(len(theirs["boxes"])):
        far = (ours.boxes_xyxy - theirs["boxes"][k]).abs().amax(dim=1) / BOX_PX
        far = torch.maximum(far, (ours.scores - theirs["scores"][k]).abs() / SCORE)
        far[(ours.labels + 1 != theirs["labels"][k]) | taken] = torch.inf
        if len(far) and float(far.min()) <= 1:
            j = int(far.argmin())
            pairs.append((k, j))
            taken[j] = True
    return pairs


def _detection(theirs: dict[str, Tensor], ours: Instances, side: str, k: int) -> tuple[Tensor, Tensor, Tensor]:
    if side == "theirs":
        return theirs["boxes"][k], theirs["scores"][k], theirs["labels"][k] - 1
    return ours.boxes_xyxy[k], ours.scores[k], ours.labels[k]


def _cascade(
    theirs: dict[str, Tensor], ours: Instances, reasons: dict[tuple[str, int], str | None], decisions: Decisions
) -> None:
    """What follows from an explained detection: neighbours it suppressed or did not, and who came last in the list."""
    changed = True
    while changed:
        changed = False
        for key, reason in reasons.items():
            box, score, label = _detection(theirs, ours, *key)
            if reason is not None or not decisions.knows(box, label):
                continue
            for other, cause in reasons.items():
                other_box, other_score, other_label = _detection(theirs, ours, *other)
                near = (
                    other_label == label and float(box_iou(box[None], other_box[None])) > decisions.box_iou - DECISION
                )
                last = decisions.last_score is not None and score <= decisions.last_score + 1e-2 and other_score > score
                if cause is not None and (near or (last and other[0] != key[0])):
                    reasons[key] = f"follows from {other[0]} {other[1]}"
                    changed = True
                    break


class Decisions:
    """Every choice our network made on one image, and which of them were close."""

    def __init__(self, predictor: Predictor, batch: ImageBatch, index: int, size: Resized, limits: Limits) -> None:
        self.model, self.size, self.limits = predictor.model, size, limits
        batch = ImageBatch(batch.tensor.float(), batch.sizes_hw)
        self.size_hw = batch.sizes_hw[index]
        self.box_iou = self.model.settings.box_iou
        self.threshold = float(limits.score_threshold)
        with torch.no_grad():
            maps = self.model.pyramid(self.model.backbone(batch.tensor))
            self.pyramid = [level[index : index + 1] for level in maps]
            scored = self.model.rpn(self.pyramid, batch.tensor[index : index + 1])
            per_level, most = self.model.proposal_limits(batch.tensor)
            (regions,), _ = self.model.rpn.propose(scored, self.size_hw[None], per_level, most)
            self.candidates = self._candidates(regions)
            self.doubtful = self._candidates(_close_calls(self.model.rpn, scored, self.size_hw, per_level, most))
            kept = self._detect(regions, limits, self.box_iou)
        full = len(kept["scores"]) == int(limits.detections)
        self.last_score = float(kept["scores"].min()) if full else None

    def _candidates(self, regions: Tensor) -> dict[str, Tensor]:
        """What the regions become without suppression and limit, in pixels of the original image."""
        found = self._detect(regions, Limits.of(max(self.threshold - DECISION, 0.0), 10**9), 2.0)
        factors = [a / b for a, b in zip(self.size.original_hw, self.size.network_hw, strict=True)]
        found["boxes_xyxy"] = found["boxes_xyxy"] * torch.tensor(factors).flip(0).repeat(2)
        return found

    def _detect(self, regions: Tensor, limits: Limits, box_iou: float) -> dict[str, Tensor]:
        rows = torch.zeros(len(regions), dtype=torch.int64)
        logits, deltas = self.model.box_head(self.model._crop(FeatureTable.of(self.pyramid[:4]), regions, rows, 7))
        return detect(regions, logits, deltas, self.size_hw, limits, box_iou)._asdict()

    def knows(self, box: Tensor, label: Tensor) -> bool:
        """Whether this very box was among our candidates: only then can a decision have removed it."""
        return any(bool(_same(candidates, box, label).any()) for candidates in (self.candidates, self.doubtful))

    def explain(self, box: Tensor, score: Tensor, label: Tensor) -> str | None:
        """The close decision for which this detection may be missing on one side, or None."""
        if bool(_same(self.doubtful, box, label).any()):
            return "its region was kept or not by a close call"
        if not self.knows(box, label):
            return None
        if abs(float(score) - self.threshold) < DECISION:
            return "score at the threshold"
        if self.last_score is not None and abs(float(score) - self.last_score) < DECISION:
            return "rank at the detection limit"
        rivals = self.candidates["labels"] == label
        overlaps = box_iou(box[None], self.candidates["boxes_xyxy"][rivals])[0]
        if bool(((overlaps - self.box_iou).abs() < DECISION).any()):
            return "overlap at the suppression threshold"
        close = (overlaps > self.box_iou) & ((self.candidates["scores"][rivals] - score).abs() < DECISION)
        if bool((close & ~_same(self.candidates, box, label)[rivals]).any()):
            return "rank against an overlapping detection"
        return None


def _same(candidates: dict[str, Tensor], box: Tensor, label: Tensor) -> Tensor:
    near = (candidates["boxes_xyxy"] - box).abs().amax(dim=1) < BOX_PX
    return near & (candidates["labels"] == label)


def _close_calls(
    rpn: RegionProposalNetwork, scored: ScoredAnchors, size_hw: Tensor, per_level: int, most: int
) -> Tensor:
    """Regions about which a choice of the proposal stage lies within DECISION of its threshold."""
    close, everything, scores, levels = [], [], [], []
    for level, (anchors, logits, deltas) in enumerate(zip(*scored, strict=True)):
        score, rows = logits[0].sigmoid().sort(descending=True)
        region = boxes.clip(boxes.decode(deltas[0, rows], anchors[rows], BOX_WEIGHTS), size_hw)
        if len(score) > per_level:
            close.append(region[(score - score[per_level - 1]).abs() < DECISION])
        everything.append(region[:per_level])
        scores.append(score[:per_level])
        levels.append(torch.full((len(region[:per_level]),), level))
        overlaps = box_iou(everything[-1], everything[-1]).fill_diagonal_(0)
        at_threshold = (overlaps - rpn.iou_threshold).abs() < DECISION
        swapped = (overlaps > rpn.iou_threshold) & ((scores[-1][:, None] - scores[-1]).abs() < DECISION)
        close.append(everything[-1][(at_threshold | swapped).any(dim=1)])
    region, score = torch.cat(everything), torch.cat(scores)
    kept = boxes.suppress(region, score, torch.cat(levels), rpn.iou_threshold)
    if len(kept) > most:
        close.append(region[(score - score[kept[most - 1]]).abs() < DECISION])
    return torch.cat(close)


class Copy(Backend):
    """A copy of a network with layers in `dtype`; `folded` is the one that predicts, else it is the network itself.

    The tests compare in 64 bits: in 32 a lively network makes hundredths of a pixel of rounding, on each processor
    others. In 64 the copy lacks what oneDNN does in one pass, which `tests/engine/test_cpu_blocks.py` is about.
    """

    name, precision = "torch", "fp32"

    def __init__(self, model: Network, dtype: torch.dtype = torch.float64, folded: bool = True) -> None:
        self.network, self.dtype = copy.deepcopy(model).to(dtype), dtype
        self.format = torch.channels_last if folded else torch.contiguous_format
        if folded:
            self.network = for_inference(self.network, torch.device("cpu"), dtype)

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        images = batch.tensor.to(self.dtype).contiguous(memory_format=self.format)
        with torch.inference_mode():
            outputs: Outputs = self.network(images, batch.sizes_hw, limits)
        return outputs


def their_objects(
    module: MaskRCNN, images: list[Tensor], dtype: torch.dtype = torch.float64
) -> list[dict[str, Tensor]]:
    """What torchvision's network finds on images `[3, h, w]` in 0..1, computed in `dtype`."""
    with torch.no_grad():
        found = copy.deepcopy(module).to(dtype)([image.to(dtype) for image in images])
    return [{name: t.float() if t.is_floating_point() else t for name, t in one.items()} for one in found]


def run_pair(
    module: MaskRCNN,
    predictor: Predictor,
    images: list[Tensor],
    dtype: torch.dtype = torch.float64,
    as_trained: bool = False,
) -> list[Comparison]:
    """Both networks on the same batch of images `[3, h, w]` in 0..1, in `dtype`, compared image by image.

    What predicts is a fast copy of the network; `as_trained` runs the network itself.
    """
    theirs = their_objects(module, images, dtype)
    with torch.no_grad():
        transformed, _ = module.transform([image.to(dtype) for image in images])
    # the same resized pixels, padded the same way: only the networks and what follows are compared here
    batch = ImageBatch(transformed.tensors, torch.tensor(transformed.image_sizes, dtype=torch.int64).reshape(-1, 2))
    limits = Limits.of(predictor.info.score_threshold, predictor.info.detection_limit)
    sizes = [
        Resized((image.shape[1], image.shape[2]), tuple(size))
        for image, size in zip(images, batch.sizes_hw.tolist(), strict=True)
    ]
    outputs = Copy(predictor.model, dtype, folded=not as_trained).run(batch, limits)
    decoded = predictor.model.decode(outputs, sizes, limits)
    return [
        compare(theirs[k], decoded[k], lambda k=k: Decisions(predictor, batch, k, sizes[k], limits))  # type: ignore[misc]
        for k in range(len(images))
    ]
