"""Find every object in an image, cut each one out, count them and measure them.

import halfpixel

objects = halfpixel.load("nuclei").predict("cells.png")
print(len(objects))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfpixel.data.checks.dataset_check import check_dataset
    from halfpixel.data.dataset import Dataset, Sample
    from halfpixel.data.formats.coco import read_coco
    from halfpixel.data.formats.detect import read_dataset
    from halfpixel.data.images.picture import read_pictures
    from halfpixel.data.images.rgb8 import read_image
    from halfpixel.engine.load import from_torchvision, load, open_backend
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.evaluation import evaluate
    from halfpixel.measure.density import density
    from halfpixel.measure.object_table import measure_objects
    from halfpixel.outputs.coco import write_coco
    from halfpixel.outputs.geojson import write_geojson
    from halfpixel.structures.instances import Instances
    from halfpixel.structures.masks import CropMasks
    from halfpixel.train.loop import fit
    from halfpixel.train.recipe import Recipe
    from halfpixel.viz.blur import blurred
    from halfpixel.viz.cutouts import cut_out
    from halfpixel.viz.overlay import draw_overlay

__version__ = "0.1.0"

# Loaded when first asked for: the command line's help must not wait for torch.
_HOMES = {
    "read_pictures": "data.images.picture",
    "blurred": "viz.blur",
    "write_geojson": "outputs.geojson",
    "density": "measure.density",
    "measure_objects": "measure.object_table",
    "CropMasks": "structures.masks",
    "Dataset": "data.dataset",
    "Instances": "structures.instances",
    "Predictor": "engine.predictor",
    "Recipe": "train.recipe",
    "Sample": "data.dataset",
    "check_dataset": "data.checks.dataset_check",
    "cut_out": "viz.cutouts",
    "draw_overlay": "viz.overlay",
    "evaluate": "evaluation.evaluation",
    "from_torchvision": "engine.load",
    "load": "engine.load",
    "open_backend": "engine.load",
    "read_coco": "data.formats.coco",
    "read_dataset": "data.formats.detect",
    "read_image": "data.images.rgb8",
    "fit": "train.loop",
    "write_coco": "outputs.coco",
}

__all__ = [
    "CropMasks",
    "Dataset",
    "Instances",
    "Predictor",
    "Recipe",
    "Sample",
    "blurred",
    "check_dataset",
    "cut_out",
    "density",
    "draw_overlay",
    "evaluate",
    "fit",
    "from_torchvision",
    "load",
    "measure_objects",
    "open_backend",
    "read_coco",
    "read_dataset",
    "read_image",
    "read_pictures",
    "write_coco",
    "write_geojson",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"halfpixel.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'halfpixel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
