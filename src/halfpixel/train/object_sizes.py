"""How large the objects of training images are as a network sees them."""

from __future__ import annotations

from halfpixel.data.dataset import Dataset
from halfpixel.data.images.prepare import network_size
from halfpixel.structures.diameters import TrainedDiameters, equivalent_diameters, typical_diameter
from halfpixel.structures.images import InputRules


def measure_diameters(dataset: Dataset, rules: InputRules) -> TrainedDiameters | None:
    """The sizes of a data set's objects after images were resized for a network; None where nothing is annotated.

    Objects without masks are as large as their boxes. What augmentation does to sizes is left out, see
    `TrainedDiameters`.

    Args:
        dataset: annotated images.
        rules: how they are resized.
    """
    found = []
    for sample in dataset.samples:
        areas = sample.areas_px if sample.objects.masks is None else sample.objects.masks.areas_px()
        diameter = typical_diameter(equivalent_diameters(areas.numpy()))
        if diameter is not None:
            found.append(diameter * network_size(sample.size_hw, rules)[0])
    return TrainedDiameters.of_images(found)
