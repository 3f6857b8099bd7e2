"""How large the objects of training images are as a network sees them, and at which size it is shown them."""

from __future__ import annotations

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.images.prepare import network_size
from halfpixel.engine.size_finder import scale_at
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
    typical = ((sample, _typical_px(sample)) for sample in dataset.samples)
    return TrainedDiameters.of_images(
        [px * network_size(sample.size_hw, rules)[0] for sample, px in typical if px is not None]
    )


class KnownSizes:
    """Shows a network each training image at the size at which it will look at it where it finds how large objects are.

    Args:
        dataset: annotated images.
        rules: of the model.
        diameters: it is trained on: those of the data set.
        tolerance: of the size finder, see `SizeFinderInfo`.
    """

    def __init__(self, dataset: Dataset, rules: InputRules, diameters: TrainedDiameters, tolerance: float) -> None:
        self._scales = {
            sample.path: scale_at(diameter_px, sample.size_hw, rules, diameters, tolerance)
            for sample in dataset.samples
            if (diameter_px := _typical_px(sample)) is not None
        }

    def scale(self, sample: Sample) -> float | None:
        """By which factor an image is enlarged, as if its annotated objects had been found; None without any."""
        return self._scales.get(sample.path)


def _typical_px(sample: Sample) -> float | None:
    """The diameter of an image's objects, in its pixels."""
    areas = sample.areas_px if sample.objects.masks is None else sample.objects.masks.areas_px()
    return typical_diameter(equivalent_diameters(areas.numpy()))
