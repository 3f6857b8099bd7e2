"""Which pixels an object has, mask or not."""

import torch

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks


def pixel_masks(objects: Instances) -> CropMasks:
    """The objects' masks; without any, every pixel whose centre is inside the box."""
    if objects.masks is not None:
        return objects.masks
    first_last = (objects.boxes_xyxy.double() - 0.5).ceil().long()
    sizes_wh = (first_last[:, 2:] - first_last[:, :2]).clamp(min=0)
    crops = tuple(torch.ones(height, width, dtype=torch.bool) for width, height in sizes_wh.tolist())
    return CropMasks(crops, first_last[:, :2], objects.size_hw)
