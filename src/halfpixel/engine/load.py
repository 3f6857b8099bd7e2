"""Models, ready to predict, and what runs them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from halfpixel.engine.backends.base import Backend, BackendName, ComputePrecision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.backends.exported_files import open_exported, open_file
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, InputError, ModelFileError
from halfpixel.nn.network import check_weights
from halfpixel.zoo.coco_classes import coco_classes
from halfpixel.zoo.download import Progress
from halfpixel.zoo.foreign.transformers_folder import is_of_transformers, read_config
from halfpixel.zoo.foreign.transformers_models import described_as, open_transformers, runs_in_transformers
from halfpixel.zoo.modelfile import ModelInfo, is_described, load_model, load_size_network, read_info
from halfpixel.zoo.names import DEFAULT_MODEL, MODEL_FILES, find, locate
from halfpixel.zoo.published import NamedModel
from halfpixel.zoo.weight_files import read_weights

PUBLISHED = re.compile(r"(mask|faster)rcnn_resnet50_fpn_coco-[0-9a-f]{8}\.pth")
"""Files of torchvision whose frozen normalisations have no epsilon."""


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    backend: BackendName | None = None,
    precision: ComputePrecision | None = None,
    progress: Progress | None = None,
    class_names: Sequence[str] | None = None,
) -> Predictor:
    """A model, ready to predict.

    Args:
        model: a name (`halfpixel models` lists them), or a file; docs/models.md tells more of each. One of our
            `.safetensors` files; an `.onnx` or `.xml` file that was exported from one (see `halfpixel.engine.export`);
            the `.onnx` file of a YOLO network with masks; a `.pth` or `.pt` file with weights of torchvision's Mask or
            Faster R-CNN, of MMDetection's RTMDet-Ins, YOLACT, SOLOv2 or PointRend, of the original YOLACT or of
            Detectron2's trainer; a `.pkl` file of Detectron2's model zoo; a folder of transformers, or the
            `model.safetensors` in it, of RT-DETR, Mask2Former, RF-DETR with masks or EoMT.
        backend: what runs the network, see `open_backend`; default torch, and for an exported file what it is for.
        precision: what the backend computes in; default the fastest without losing objects.
        progress: told of a download's pieces.
        class_names: what the classes are to be called, in their order and without the background, such as where a
            file of others does not name them; `with_classes` is for other classes.

    Raises:
        ModelFileError: neither a name nor a usable file.
        DownloadError: a named model could not be fetched.
        ArgumentError: the backend does not run networks in this precision, or not this file; or the number of class
            names is wrong.
        MissingDependencyError: what runs the network is not installed.
    """
    predictor = _open(model, progress)
    if (named := find(str(model))) is not None and named.url:  # of a user's own file nobody knows this
        predictor.info = replace(predictor.info, source=named.url, licence=named.licence)
    if class_names is not None:
        if len(class_names) != len(predictor.class_names):
            raise ArgumentError(f"{len(class_names)} class names for {len(predictor.class_names)} classes")
        predictor.info = replace(predictor.info, class_names=tuple(class_names))
        predictor.model.class_names = predictor.info.class_names
    if backend is None and precision is None:
        return predictor
    return predictor.on(open_backend(predictor, backend or predictor.backend.name, precision))


def read_description(path: Path) -> ModelInfo:
    """What any file that `load` takes says of its model, or what is known of it.

    Raises:
        ModelFileError: not a usable file.
        MissingDependencyError: what runs it is not installed.
    """
    ours = path.suffix.lower() == ".safetensors" and not is_of_transformers(path)
    return read_info(path) if ours else _open(path, None).info


def open_backend(
    predictor: Predictor, name: BackendName, precision: ComputePrecision | None = None, threads: int | None = None
) -> Backend:
    """What runs the network of a predictor, to be given to `Predictor.on`.

    For ONNX Runtime and OpenVINO the network is exported, which takes up to a minute, into the cache folder; the next
    time the file is there.

    Args:
        predictor: its weights are taken.
        name: which library runs the network.
        precision: what it computes in; default the fastest that it can without losing objects.
        threads: that one image may use in the two runtimes; default all.

    Raises:
        ArgumentError: the library does not run networks in this precision, or the weights are not at hand.
        MissingDependencyError: a library is not installed.
    """
    if name == "torch":
        if predictor.backend.name != "torch":
            check_weights(predictor.model, "be run by torch")
        if predictor.model.only_predicts:
            if precision not in (None, "fp32"):
                raise ArgumentError(f"this network runs in fp32 only: in {precision} its boxes would be rounded")
            precision = "fp32"
        return TorchBackend(predictor.model, predictor.device, precision)
    if precision == "int8":
        raise ArgumentError(
            f"{name} runs int8 only from a file that was calibrated on images like yours: "
            f"halfpixel export MODEL --to openvino --int8 --images PATH --out FILE; then give FILE as the model"
        )
    if precision not in (None, "fp32"):
        raise ArgumentError(
            f"{name} runs networks in fp32 or, from a file, int8; in {precision} it would round coordinates as well"
        )
    from halfpixel.engine.export.cache import cached_export  # slow to import, and most never export

    return open_file(cached_export(predictor, name), threads)


def _open(model: str | Path, progress: Progress | None) -> Predictor:
    path = locate(model, progress)
    named = find(str(model))
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".xml"):
        network, info, backend = open_exported(path)
        return Predictor(network, info, torch.device("meta"), backend=backend)  # its weights are in the backend
    if suffix == ".pkl":
        from halfpixel.zoo.convert.detectron2 import read  # most never need it

        return Predictor(*read(path))
    if runs_in_transformers(path):
        foreign, about = open_transformers(path, coco_classes() if named is not None else ())
        predictor = Predictor(foreign, about)  # their arithmetic is not made for fewer bits
        return predictor.on(TorchBackend(foreign, predictor.device, "fp32"))
    if suffix not in (".pth", ".pt") and not is_of_transformers(path) and (named is None or named.file):
        if suffix not in MODEL_FILES and not is_described(path):
            others = ", ".join(MODEL_FILES[1:])
            raise ModelFileError(f"{path}: not a safetensors model file; names of others end in {others}")
        network, info = load_model(path)
        return Predictor(network, info, size_network=load_size_network(path, info))
    try:
        return _converted(path, named)
    except InputError as error:  # names that cannot be a class's, too: they are the file's
        raise ModelFileError(f"{path}: {error}") from error


def _converted(path: Path, named: NamedModel | None) -> Predictor:
    """A network of ours with others' weights."""
    from halfpixel.zoo.converters import convert  # they know others' libraries, which are slow to import

    checkpoint = read_weights(path)
    if PUBLISHED.fullmatch(path.name):
        return from_torchvision(checkpoint, eps=0.0)
    reader = named.reader if named is not None else ""
    if is_of_transformers(path):
        try:
            return Predictor(*convert(checkpoint, read_config(path).class_names(), reader))
        except InputError as error:
            raise ModelFileError(f"{described_as(path)}, and no converter takes it: {error}") from error
    return Predictor(*convert(checkpoint, coco_classes() if reader not in ("", "torchvision") else None, reader))


def from_torchvision(
    module: nn.Module | Mapping[str, Any], class_names: Sequence[str] | None = None, *, eps: float | None = None
) -> Predictor:
    """A predictor with the weights of torchvision's Mask R-CNN or Faster R-CNN, giving the same detections.

    Args:
        module: `torchvision.models.detection.maskrcnn_resnet50_fpn`, `fasterrcnn_resnet50_fpn` or their `..._v2`,
            with any number of classes; its resizing, thresholds and limits are copied. Or a state dict, also inside of
            a trainer's checkpoint: then the published defaults are used.
        class_names: without the background.
        eps: of a state dict's frozen normalisations, which it does not hold: 0 for the published weights of the first
            variant and what was trained from them, 1e-5 for what was trained from an ImageNet backbone. Default: 0,
            with a warning where it matters.

    Raises:
        ModelFileError: another architecture, or settings that ours cannot have; they are named.
        ArgumentError: the number of class names is wrong, or an epsilon for a module, which holds its own.
    """
    from halfpixel.zoo.convert.torchvision import convert  # it knows torchvision, which is slow to import

    return Predictor(*convert(module, class_names, eps))
