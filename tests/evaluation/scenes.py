"""Small hand-made images for the tests beside this file."""

from pathlib import Path

import torch

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZE_HW = (40, 50)


def blocks(boxes, scores=None, labels=None, names=("cell",), size_hw=SIZE_HW, masks=True) -> Instances:
    """Objects that fill their (left, top, right, bottom)."""
    crops = tuple(torch.ones(bottom - top, right - left, dtype=torch.bool) for left, top, right, bottom in boxes)
    offsets_xy = torch.tensor([box[:2] for box in boxes], dtype=torch.int64).reshape(-1, 2)
    return Instances(
        size_hw=size_hw,
        boxes_xyxy=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.ones(len(boxes)) if scores is None else torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels if labels is not None else [0] * len(boxes), dtype=torch.int64),
        class_names=names,
        masks=CropMasks(crops, offsets_xy, size_hw) if masks else None,
    )


def random_blobs(n, generator, size_hw=SIZE_HW, n_classes=1, longest=14) -> Instances:
    """Ragged objects that overlap each other."""
    names = tuple(f"class {k}" for k in range(n_classes))
    sizes = torch.randint(2, longest, (n, 2), generator=generator)
    starts = (torch.rand(n, 2, generator=generator) * (torch.tensor(size_hw) - sizes)).long()
    crops = tuple(torch.rand(*size.tolist(), generator=generator) < 0.8 for size in sizes)
    masks = CropMasks(crops, starts.flip(1), size_hw)
    return Instances(
        size_hw=size_hw,
        boxes_xyxy=masks.boxes_xyxy(),
        scores=torch.rand(n, generator=generator).sort(descending=True).values,
        labels=torch.randint(0, n_classes, (n,), generator=generator),
        class_names=names,
        masks=masks,
    )


def sample(objects, image_id=1, ignored=None, attributes=None) -> Sample:
    return Sample(
        image_id=image_id,
        path=Path(f"image-{image_id}.png"),
        size_hw=objects.size_hw,
        objects=objects,
        areas_px=torch.zeros(0) if objects.masks is None else objects.masks.areas_px().float(),
        annotation_ids=tuple(range(len(objects))),
        ignored=blocks([], names=objects.class_names, size_hw=objects.size_hw) if ignored is None else ignored,
        attributes=attributes or {},
    )


def dataset(*samples, names=("cell",)) -> Dataset:
    return Dataset(Path("hand-made.json"), names, tuple(range(1, len(names) + 1)), samples)
