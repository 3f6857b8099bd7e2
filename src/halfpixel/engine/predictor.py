"""From images to objects."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.prepare import light_factor, prepare_batch
from halfpixel.data.images.rgb8 import as_rgb8, from_pillow, read_image
from halfpixel.engine.backends.base import Backend, BackendName, Precision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.parallel import predict_in_order
from halfpixel.engine.prefilter import FirstPass
from halfpixel.engine.tiles import GRID_PX, Box, merge, tiles
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.network import Network
from halfpixel.structures.images import Limits
from halfpixel.structures.instances import Instances
from halfpixel.zoo.convert.torchvision import convert
from halfpixel.zoo.download import Progress
from halfpixel.zoo.modelfile import ModelInfo, load_model, save_model
from halfpixel.zoo.names import DEFAULT_MODEL, locate

AnyImage = str | Path | npt.NDArray[np.generic] | Image.Image
"""A file, a numpy array `[h, w]` or `[h, w, channels]`, or a Pillow image."""


MARGIN_PX = 256
"""What a piece of a large image sees beyond its own part, in pixels of the network's input."""

FAST = 2 / 3
"""How large `Predictor.fast` looks at images, by their usual side."""


class Predictor:
    """A network and everything around it.

    Attributes:
        model: the network.
        info: what its model file says.
        device: where it runs.
        first_pass: looks first, and decides where the network looks; None for everywhere.
        backend: runs the network's `forward`; default torch, in the device's own precision. The weights are taken
            when it first runs.
    """

    def __init__(
        self,
        model: Network,
        info: ModelInfo,
        device: torch.device | None = None,
        first_pass: FirstPass | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.device = device or _best_device()
        self.model = model.eval().to(self.device)
        self.info = info
        self.first_pass = first_pass
        self.backend = backend or TorchBackend(model, self.device)

    def __repr__(self) -> str:
        return f"Predictor({self.info.variant}, classes: {', '.join(self.class_names)}, on {self.device})"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; labels index into them."""
        return self.model.class_names

    @overload
    def predict(  # type: ignore[overload-overlap]  # a str is a sequence of str, and counts as one image
        self, images: AnyImage, *, threshold: float | None = None, limit: int | None = None
    ) -> Instances: ...

    @overload
    def predict(
        self, images: Sequence[AnyImage], *, threshold: float | None = None, limit: int | None = None
    ) -> list[Instances]: ...

    def predict(
        self, images: AnyImage | Sequence[AnyImage], *, threshold: float | None = None, limit: int | None = None
    ) -> Instances | list[Instances]:
        """Find objects.

        Args:
            images: one image or several: files, Pillow pictures or arrays (uint8 as it is, floats in 0..1, anything
                else stretched to its own range). Each goes through the network on its own, so that an image's objects
                never depend on its neighbours in the list; only the last digits may be others than those of the image
                alone, which has all processors. `predict_many` is for more than a list can hold.
            threshold: objects scoring less are left out, 0..1; default the model's own.
            limit: at most this many objects an image; default the model's own. `Instances.saturated` says when it
                was reached.

        Returns:
            The objects of the image, or a list of them for a list of images.

        Raises:
            ImageError: an image cannot be read or used.
            ArgumentError: threshold or limit out of range.
        """
        if isinstance(images, Sequence) and not isinstance(images, str):
            return list(self.predict_many(images, threshold=threshold, limit=limit))
        return self._predict_one(images, threshold, limit)

    def predict_many(
        self, images: Iterable[AnyImage], *, threshold: float | None = None, limit: int | None = None
    ) -> Iterator[Instances]:
        """Find objects on any number of images: others are read and looked at while you use the objects of one.

        Only a few images are in memory at a time. Small ones are looked at by several workers, see
        `halfpixel.engine.parallel.predict_in_order`.

        Args:
            images: as for `predict`; may be a generator.
            threshold: likewise.
            limit: likewise.

        Yields:
            The objects of each image, in order.

        Raises:
            ImageError: an image cannot be read or used; no more images follow.
            ArgumentError: threshold or limit out of range.
        """
        several = not isinstance(images, Sized) or len(images) > 1
        for _, found in predict_in_order(self, images, _pixels, threshold, limit, in_parallel=several):
            yield found.result()

    def _predict_one(self, image: AnyImage, threshold: float | None, limit: int | None) -> Instances:
        threshold = self.info.score_threshold if threshold is None else threshold
        limit = self.info.detection_limit if limit is None else limit
        if not 0 <= threshold < 1:
            raise ArgumentError(f"the score threshold must be at least 0 and below 1, got {threshold}")
        if limit < 1:
            raise ArgumentError(f"the detection limit must be at least 1, got {limit}")
        pixels = _pixels(image)
        size_hw = (pixels.shape[0], pixels.shape[1])
        objects, search = None, None
        if self.first_pass is not None:
            objects, search = self.first_pass.look(pixels, lambda regions: self._in(pixels, regions, threshold, limit))
        if objects is None:
            objects = self._in(pixels, [(0, 0, size_hw[1], size_hw[0])], threshold, limit)
        return dataclasses.replace(
            objects[:limit],
            score_threshold=threshold,
            saturated=objects.saturated or len(objects) > limit,
            search=search,
        )

    def _in(self, pixels: Rgb8, regions_xyxy: Sequence[Box], threshold: float, limit: int) -> Instances:
        """The objects in some regions of an image that do not overlap; at least one region."""
        rules, size_hw = self.info.input, (pixels.shape[0], pixels.shape[1])
        most_px = max(*size_hw) if rules.scale is None else max(int(rules.longest_side / rules.scale), 1)
        margin_px = math.ceil(MARGIN_PX / (GRID_PX * (rules.scale or 1))) * GRID_PX
        margin_px = min(margin_px, (most_px - 1) // 4)  # a small piece is still mostly core
        pieces = [one for region in regions_xyxy for one in tiles(region, size_hw, most_px, margin_px)]
        light = light_factor(pixels, rules.stretch_below)
        found = []
        for piece in pieces:
            x0, y0, x1, y1 = piece.outer_xyxy
            objects = self._look_at(pixels[y0:y1, x0:x1], light, threshold, limit)
            found.append((piece, objects.translate(x0, y0, size_hw)))
        return found[0][1] if len(found) == 1 else merge(found, margin_px)

    def _look_at(self, pixels: Rgb8, light: float, threshold: float, limit: int) -> Instances:
        """The objects in one piece, which goes through the network at once."""
        batch, size = prepare_batch(pixels, self.info.input, light)
        outputs = self.backend.run(batch, Limits.of(threshold, self.model.asks_for(limit)))
        with torch.inference_mode():
            (objects,) = self.model.decode(outputs, [size])
        return objects

    def with_first_pass(self, semantic: Predictor) -> Predictor:
        """The same predictor, but it looks only where another, of a U-Net, saw something in the reduced image.

        Raises:
            ArgumentError: the other predictor's network does not say what each pixel shows; or this one brings all
                images to one size, and so would show its network each region at another scale.
        """
        if self.info.input.scale is None:
            raise ArgumentError("a first pass needs a model that was trained with a scale, not one that fits sides")
        look = FirstPass(semantic.model, semantic.info, semantic.backend)
        return Predictor(self.model, self.info, self.device, look, self.backend)

    def on(self, backend: Backend | BackendName, precision: Precision | None = None) -> Predictor:
        """The same predictor with its network run by something else.

        Args:
            backend: torch, onnx or openvino, or one that is open already. For the latter two the network is exported
                into the cache folder, which takes up to a minute; the next time the file is there.
            precision: what the backend, given by its name, computes in; default the fastest without losing objects.

        Raises:
            ArgumentError: the backend does not run networks in this precision.
            MissingDependencyError: the backend is not installed.
        """
        if isinstance(backend, str):
            from halfpixel.engine.backends.exported_files import open_backend

            backend = open_backend(self, backend, precision)
        return Predictor(self.model, self.info, self.device, self.first_pass, backend)

    def fast(self) -> Predictor:
        """The same predictor, looking at images at two thirds of the size: faster, worse on small objects.

        A calibration does not hold for it, and is left out.
        """
        rules = self.info.input
        if rules.scale is not None:
            rules = dataclasses.replace(rules, scale=rules.scale * FAST)
        else:
            sides = round(rules.shortest_side * FAST), round(rules.longest_side * FAST)
            rules = dataclasses.replace(rules, shortest_side=sides[0], longest_side=sides[1])
        info = dataclasses.replace(self.info, input=rules, calibration=None)
        return Predictor(self.model, info, self.device, self.first_pass, self.backend)

    def with_classes(self, class_names: Sequence[str]) -> Predictor:
        """A copy for other classes, to be trained: the last layers are new, all else is kept.

        Raises:
            ArgumentError: no names, or the same one twice.
        """
        named = not isinstance(class_names, str) and all(isinstance(name, str) and name for name in class_names)
        if not named or not class_names or len(set(class_names)) != len(class_names):
            raise ArgumentError(f"expected a list of different class names, at least one, got {class_names!r}")
        info = dataclasses.replace(self.info, class_names=tuple(class_names), measured={}, calibration=None)
        return Predictor(self.model.with_classes(class_names), info, self.device)

    def save(self, path: str | Path) -> None:
        """Write a model file that `halfpixel.load` reads."""
        save_model(Path(path), self.model, self.info)


def _best_device() -> torch.device:
    """The accelerator, where there is one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def _pixels(image: AnyImage) -> npt.NDArray[np.uint8]:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    return from_pillow(image) if isinstance(image, Image.Image) else as_rgb8(image)


def load(model: str | Path = DEFAULT_MODEL, *, progress: Progress | None = None) -> Predictor:
    """A model, ready to predict.

    Args:
        model: a name (`halfpixel models` lists them), one of our `.safetensors` files, an `.onnx` or `.xml` file that
            was exported from one (see `halfpixel.engine.export`), or a `.pth` file with the weights of torchvision's
            Mask R-CNN.
        progress: told of a download's pieces.

    Raises:
        ModelFileError: neither a name nor a usable file.
        DownloadError: a named model could not be fetched.
        MissingDependencyError: what runs an exported file is not installed.
    """
    path = locate(model, progress)
    if path.suffix in (".onnx", ".xml"):
        from halfpixel.engine.backends.exported_files import open_exported

        network, info, backend = open_exported(path)
        return Predictor(network, info, torch.device("meta"), backend=backend)  # its weights are in the backend
    if path.suffix not in (".pth", ".pt"):
        return Predictor(*load_model(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none of them tells more than that the file is not usable
        first_line = str(error).partition("\n")[0]
        raise ModelFileError(f"{path}: not a file of weights only ({first_line})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFileError(f"{path}: not a state dict (a mapping of names to tensors)")
    try:
        return from_torchvision(state)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def from_torchvision(module: nn.Module | Mapping[str, Tensor], class_names: Sequence[str] | None = None) -> Predictor:
    """A predictor with the weights of torchvision's Mask R-CNN, giving the same detections.

    Args:
        module: `torchvision.models.detection.maskrcnn_resnet50_fpn` or `..._v2`, with any number of classes; its
            resizing, thresholds and limits are copied. Or a state dict: then the published defaults are used.
        class_names: without the background.

    Raises:
        ModelFileError: another architecture.
        ArgumentError: the number of class names is wrong.
    """
    return Predictor(*convert(module, class_names))
