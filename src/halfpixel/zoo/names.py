"""The models that have names."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from halfpixel.errors import DownloadError, ModelFileError
from halfpixel.zoo.download import Progress, cache_dir, fetch


@dataclass(frozen=True)
class NamedModel:
    """A model that `halfpixel.load` and `--model` know by name.

    Attributes:
        name: what users type.
        summary: one line.
        licence: of the weights, an SPDX name.
        accuracy: what was measured, by whom, with its definition.
        file: inside the package, for embedded models.
        url: for models that are fetched on first use.
        sha256: of that file, in hex, or the prefix that its publisher states.
        megabytes: about how much is fetched.
    """

    name: str
    summary: str
    licence: str
    accuracy: str
    file: str = ""
    url: str = ""
    sha256: str = ""
    megabytes: int = 0


TORCHVISION = "https://download.pytorch.org/models/"

NAMED_MODELS = (
    NamedModel(
        name="nuclei",
        summary="cell nuclei in fluorescence, stained tissue and brightfield; small, made for CPUs (the default)",
        licence="Apache-2.0",
        accuracy="COCO mask AP 65.9 at 1,000 detections; TP/(TP+FP+FN) at IoU .50 0.844 (66 held-out images)",
        file="nuclei.safetensors",
    ),
    NamedModel(
        name="nuclei-unet",
        summary="the predecessor, a U-Net with connected components: melts touching nuclei; good as a --first-pass",
        licence="Apache-2.0",
        accuracy="TP/(TP+FP+FN) at IoU .50 0.632, count MAE 6.4 (the same 66 images; nuclei has 2.9)",
        file="nuclei-unet.safetensors",
    ),
    NamedModel(
        name="nuclei-unet-boundary",
        summary="the same with outlines as a class of their own, which tell touching nuclei apart",
        licence="Apache-2.0",
        accuracy="TP/(TP+FP+FN) at IoU .50 0.691, count MAE 5.1 (the same 66 images)",
        file="nuclei-unet-boundary.safetensors",
    ),
    NamedModel(
        name="coco",
        summary="torchvision's Mask R-CNN R50-FPN: 80 classes of everyday objects",
        licence="BSD-3-Clause",
        accuracy="COCO val2017 mask AP 34.6 at 100 detections (published by torchvision)",
        url=TORCHVISION + "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        sha256="bf2d0c1e",
        megabytes=170,
    ),
    NamedModel(
        name="coco-v2",
        summary="torchvision's Mask R-CNN R50-FPN v2: the same classes, better and slower",
        licence="BSD-3-Clause",
        accuracy="COCO val2017 mask AP 41.8 at 100 detections (published by torchvision)",
        url=TORCHVISION + "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        sha256="73cbd019",
        megabytes=177,
    ),
)

DEFAULT_MODEL = "nuclei"


def find(name: str) -> NamedModel | None:
    """The named model, or None."""
    return next((model for model in NAMED_MODELS if model.name == name), None)


def check_model(name_or_path: str | Path) -> None:
    """Refuse what stands for no model; nothing is downloaded or opened.

    Raises:
        ModelFileError: neither a name nor a file.
    """
    if find(str(name_or_path)) is None and not Path(name_or_path).is_file():
        known = ", ".join(model.name for model in NAMED_MODELS)
        raise ModelFileError(f"{name_or_path}: neither a model file nor one of the named models ({known})")


def locate(name_or_path: str | Path, progress: Progress | None = None) -> Path:
    """The file of a model, downloaded if need be.

    Args:
        name_or_path: a name from `NAMED_MODELS`, or a file.
        progress: told of a download's pieces.

    Raises:
        ModelFileError: neither a name nor a file.
        DownloadError: the model could not be fetched.
    """
    check_model(name_or_path)
    named = find(str(name_or_path))
    if named is None:
        return Path(name_or_path)
    if named.file:
        return Path(str(resources.files("halfpixel.zoo").joinpath(named.file)))
    try:
        return fetch(named.url, named.sha256, cache_dir() / named.url.rpartition("/")[2], progress=progress)
    except DownloadError as error:
        embedded = ", ".join(model.name for model in NAMED_MODELS if model.file)
        raise DownloadError(
            f"{error}. These come with halfpixel and need no connection: {embedded} (`halfpixel models` says what they "
            "find); so does any model file of yours"
        ) from error
