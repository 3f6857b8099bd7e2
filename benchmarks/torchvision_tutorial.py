"""The peer of training.py: fine-tuning Mask R-CNN as torchvision's tutorial and references do it."""

import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import resize_boxes
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import v2

from halfpixel.data.dataset import Sample
from halfpixel.data.images.prepare import exposure_gain, to_float
from halfpixel.data.images.rgb8 import read_image
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

LEARNING_RATE = 0.005
DECAYS = (0.62, 0.85)
"""Shares of the budget after which the learning rate drops to a tenth, as in torchvision's references."""
ANCHORS_PX = (24, 48, 96, 192, 384)
DETECTIONS = 1000
LOWEST_SCORE = 0.05
PASTED_AT_ONCE = 50
SMALLEST_VISIBLE_PX = 4


def random_window(
    sample: Sample, side_px: int, stretch_below: float, generator: torch.Generator | None = None
) -> tuple[Tensor, CropMasks, Tensor]:
    """A window of an image in 0..1 (smaller where the image is), the masks and the labels of the objects in it.

    The image is brightened before it is cut. Objects of which less than `SMALLEST_VISIBLE_PX` are left are dropped.
    """
    height, width = (min(side_px, side) for side in sample.size_hw)
    top, left = (
        int(torch.randint(side - cut + 1, (1,), generator=generator))
        for side, cut in zip(sample.size_hw, (height, width), strict=True)
    )
    pixels = read_image(sample.path)
    image = to_float(pixels[top : top + height, left : left + width], exposure_gain(pixels, stretch_below))
    assert sample.objects.masks is not None
    masks = sample.objects.masks.translate(-left, -top, (height, width))
    visible = masks.areas_px() >= SMALLEST_VISIBLE_PX
    return image, masks[visible], sample.objects.labels[visible]


class TutorialData(torch.utils.data.Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """The tutorial's data set: N x H x W masks and random flips; with `window_px` a random window of every image."""

    def __init__(self, samples: Sequence[Sample], rules: InputRules, window_px: int) -> None:
        self.samples, self.rules, self.window_px = samples, rules, window_px
        self.transform = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.ToPureTensor()])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, k: int) -> tuple[Tensor, dict[str, Tensor]]:
        """An image in 0..1 and its target, as torchvision wants them."""
        sample = self.samples[k]
        image, masks, labels = random_window(sample, self.window_px, self.rules.stretch_below)
        target = {
            "boxes": tv_tensors.BoundingBoxes(masks.boxes_xyxy(), format="XYXY", canvas_size=masks.size_hw),
            "masks": tv_tensors.Mask(masks.dense().byte()),
            "labels": labels + 1,
        }
        image, target = self.transform(tv_tensors.Image(image), target)
        return image, target


def loader(data: TutorialData, images_per_step: int, workers: int) -> Any:
    """The tutorial's loader."""
    return DataLoader(data, images_per_step, shuffle=True, num_workers=workers, collate_fn=_collate)


def _collate(batch: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Any, ...]:
    return tuple(zip(*batch, strict=True))


def endless(batches_of: Any) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from batches_of


def step(model: nn.Module, optimiser: Any, stream: Iterator[Any], precision: str, device: torch.device) -> None:
    """One step of the tutorial."""
    images, targets = next(stream)
    images = [image.to(device) for image in images]
    targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        losses = model(images, targets)
        total = sum(losses.values())
    if not math.isfinite(total.item()):
        raise SystemExit(f"torchvision's loss is {total.item()}")
    optimiser.zero_grad()
    total.backward()
    optimiser.step()


def trainer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The tutorial's SGD."""
    trained = [p for p in model.train().parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=learning_rate, momentum=0.9, weight_decay=0.0005)


def resnet50(classes: int, side_px: int, seed: int) -> MaskRCNN:
    """`maskrcnn_resnet50_fpn(weights="DEFAULT")` with its predictors swapped, but with random weights.

    As with published weights, normalisation, the stem and the first stage are frozen. A quarter of each block's output
    is added to its shortcut, so that the signal keeps its size without statistics.
    """
    torch.manual_seed(seed)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    for module in backbone.modules():
        if isinstance(module, Bottleneck):
            module.bn3.weight.fill_(0.25)
    model = MaskRCNN(backbone, num_classes=91, min_size=side_px, max_size=side_px)
    heads = model.roi_heads
    heads.box_predictor = FastRCNNPredictor(heads.box_predictor.cls_score.in_features, 1 + classes)
    heads.mask_predictor = MaskRCNNPredictor(heads.mask_predictor.conv5_mask.in_channels, 256, 1 + classes)
    return model


def lite(classes: int, backbone: Path, side_px: int, light: bool, seed: int) -> MaskRCNN:
    """The detector on timm's EfficientNet-Lite0, with torchvision's heads or with heads as light as ours."""
    torch.manual_seed(seed)
    body = timm.create_model("tf_efficientnet_lite0")
    body.load_state_dict({name: value.float() for name, value in load_file(backbone).items()})
    body = freeze_batch_norm_2d(body)
    stages = {f"stage{k}": stage for k, stage in enumerate(body.blocks[:6])}
    layers = nn.Sequential(OrderedDict(stem=body.conv_stem, norm=body.bn1, **stages))
    channels, outputs = (80 if light else 256), 1 + classes
    pyramid = BackboneWithFPN(
        layers, {"stage1": "0", "stage2": "1", "stage4": "2", "stage5": "3"}, [24, 40, 112, 192], channels
    )
    heads: dict[str, Any] = {"num_classes": outputs}
    if light:
        heads = {
            "box_head": TwoMLPHead(channels * 7**2, 256),
            "box_predictor": FastRCNNPredictor(256, outputs),
            "mask_head": MaskRCNNHeads(channels, (64, 64, 64), 1),
            "mask_predictor": MaskRCNNPredictor(64, 64, outputs),
        }
    return MaskRCNN(
        pyramid,
        min_size=side_px,
        max_size=side_px,
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in ANCHORS_PX), ((0.5, 1.0, 2.0),) * len(ANCHORS_PX)),
        rpn_pre_nms_top_n_test=3 * DETECTIONS,
        rpn_post_nms_top_n_test=3 * DETECTIONS,
        box_detections_per_img=DETECTIONS,
        box_score_thresh=LOWEST_SCORE,
        **heads,
    )


def train(model: MaskRCNN, data: TutorialData, images_per_step: int, workers: int, seconds: float) -> int:
    """The tutorial's recipe for some time, the decay of its learning rate planned for it; how many steps that were."""
    batches_of = loader(data, images_per_step, workers)
    optimiser, stream = trainer(model, LEARNING_RATE), endless(batches_of)
    device = next(model.parameters()).device
    warm_up, start = max(min(1000, len(batches_of) - 1), 1), time.perf_counter()
    for done in itertools.count(1):
        passed = (time.perf_counter() - start) / seconds
        rate = LEARNING_RATE * min(done / warm_up, 1) * 0.1 ** sum(passed >= share for share in DECAYS)
        for group in optimiser.param_groups:
            group["lr"] = rate
        step(model, optimiser, stream, "32-true", device)
        if time.perf_counter() - start >= seconds:
            break
    return done


@torch.inference_mode()
def predict(model: MaskRCNN, sample: Sample, rules: InputRules, names: tuple[str, ...]) -> Instances:
    """What torchvision's network finds, pasted by torchvision's own code, though some masks at a time."""
    pixels = read_image(sample.path)
    image = to_float(pixels, exposure_gain(pixels, rules.stretch_below))
    assert rules.scale is not None
    transform = model.transform
    transform.min_size, transform.max_size = (round(rules.scale * min(sample.size_hw)),), rules.longest_side
    batch, _ = transform([image.to(next(model.parameters()).device)])
    features = model.backbone(batch.tensors)
    proposals, _ = model.rpn(batch, features)
    (found,), _ = model.roi_heads(features, proposals, batch.image_sizes)
    boxes_xyxy = resize_boxes(found["boxes"], batch.image_sizes[0], sample.size_hw).cpu()
    chunks = [
        CropMasks.from_dense(paste_masks_in_image(masks.cpu(), boxes, sample.size_hw)[:, 0] > 0.5)
        for masks, boxes in zip(found["masks"].split(PASTED_AT_ONCE), boxes_xyxy.split(PASTED_AT_ONCE), strict=True)
        if len(boxes)
    ]
    crops = tuple(crop for chunk in chunks for crop in chunk.crops)
    offsets = torch.cat([torch.zeros(0, 2, dtype=torch.int64), *(chunk.offsets_xy for chunk in chunks)])
    masks = CropMasks(crops, offsets, sample.size_hw)
    return Instances(sample.size_hw, boxes_xyxy, found["scores"].cpu(), found["labels"].cpu() - 1, names, masks)
