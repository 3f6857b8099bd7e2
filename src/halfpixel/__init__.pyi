"""What `halfpixel` gives; each name is loaded when it is first asked for (see `__init__.py`)."""

from .data.checks.dataset_check import check_dataset as check_dataset
from .data.combine import combine_datasets as combine_datasets
from .data.dataset import Dataset as Dataset
from .data.dataset import Sample as Sample
from .data.formats.coco import read_coco as read_coco
from .data.formats.detect import read_dataset as read_dataset
from .data.images.picture import read_pictures as read_pictures
from .data.images.raster.opening import open_raster as open_raster
from .data.images.raster.raster import Raster as Raster
from .data.images.rgb8 import read_image as read_image
from .engine.load import from_torchvision as from_torchvision
from .engine.load import load as load
from .engine.load import open_backend as open_backend
from .engine.predictor import Predictor as Predictor
from .evaluation.evaluation import evaluate as evaluate
from .jobs.annotated import ReadingOptions as ReadingOptions
from .jobs.calibrate import calibrate as calibrate
from .jobs.check import check as check
from .jobs.convert import convert as convert
from .jobs.count import count as count
from .jobs.export import export as export
from .jobs.image_options import ImageOptions as ImageOptions
from .jobs.model_options import SpeedOptions as SpeedOptions
from .jobs.predict import predict_folder as predict_folder
from .jobs.size_options import SizeOptions as SizeOptions
from .jobs.sweep import sweep as sweep
from .jobs.track import track as track
from .jobs.track_options import TrackOptions as TrackOptions
from .measure.density import density as density
from .measure.object_table import measure_objects as measure_objects
from .outputs.coco import write_coco as write_coco
from .outputs.geojson import write_geojson as write_geojson
from .report.comparison_run import compare as compare
from .report.evaluation_run import evaluate_model as evaluate_model
from .structures.instances import Instances as Instances
from .structures.masks import CropMasks as CropMasks
from .train.loop import fit as fit
from .train.recipe import Recipe as Recipe
from .viz.blur import blurred as blurred
from .viz.cutouts import cut_out as cut_out
from .viz.overlay import draw_overlay as draw_overlay

__version__: str
