"""From images to objects."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future
from pathlib import Path
from typing import overload

import torch

from halfpixel.data.images.appearance import appearance
from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.prepare import exposure_gain, prepare_batch
from halfpixel.data.images.rgb8 import AnyImage, any_rgb8
from halfpixel.engine.backends.base import Backend, run_checked
from halfpixel.engine.backends.batching import BatchingBackend, alike
from halfpixel.engine.backends.eager import TorchBackend, best_device
from halfpixel.engine.other_sizes import enlarging, faster
from halfpixel.engine.parallel import Item, is_large, read_and_look
from halfpixel.engine.prefilter import Prefilter
from halfpixel.engine.size_finder import ChosenScale, SizeFinder, choose_scale, octaves_from_usual
from halfpixel.engine.tiles import GRID_PX, Box, Tile, merge, tiles
from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network, check_weights
from halfpixel.nn.size_network import SizeNetwork
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.zoo.modelfile import ModelInfo, save_model

OVERLAP_PX = 256
"""What a tile of a large image sees beyond its own part, in pixels of the network's input."""

CPU_WORKERS = 4
"""Each holds the feature maps of an image, so more would take more memory than they save time."""

WORKERS_BESIDE = 2
"""So many more than a device runs at once prepare images and draw masks around it."""


class Predictor:
    """A network and everything around it.

    Attributes:
        model: the network.
        info: what its model file says.
        device: where it runs.
        prefilter: looks first, and decides where the network looks; None for everywhere.
        backend: runs the network's `forward`; default torch, in the device's own precision.
        size_network: finds how large an image's objects are, see `size_finder`; None where the model has none.
    """

    def __init__(
        self,
        model: Network,
        info: ModelInfo,
        device: torch.device | None = None,
        prefilter: Prefilter | None = None,
        backend: Backend | None = None,
        size_network: SizeNetwork | None = None,
    ) -> None:
        self.device = device or best_device()
        self.model = model.eval().to(self.device)
        self.info = info
        self.prefilter = prefilter
        self.backend = backend or TorchBackend(model, self.device)
        self.size_network = None if size_network is None else size_network.eval().to(self.device)
        self._octaves = 0.0  # by which images are enlarged more than is usual, see `octaves_from_usual`

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
        """Find objects, looking at each image at the size that `choose_scale` gives.

        Args:
            images: one image or several: files, Pillow pictures or arrays (uint8 as it is, floats in 0..1, anything
                else stretched to its own range). An image's objects never depend on its neighbours in the list; only
                the last digits may be others than those of the image alone, which has all processors, or on a GPU a
                batch to itself. `predict_many` is for more than a list can hold.
            threshold: objects scoring less are left out, 0..1; default the model's own.
            limit: at most this many objects an image, the best ones; default the model's own. It changes none that
                is kept. `Instances.saturated` says when it cut some off.

        Returns:
            The objects of the image, or a list of them for a list of images.

        Raises:
            ImageError: an image cannot be read or used.
            ArgumentError: threshold or limit out of range.
            ModelFileError: the network computed something that is not a number.
        """
        if isinstance(images, Sequence) and not isinstance(images, str):
            return list(self.predict_many(images, threshold=threshold, limit=limit))
        pixels = any_rgb8(images)
        chosen = self.choose_scale(pixels)
        found = self._at(chosen, pixels)._look(pixels, threshold, limit)
        return dataclasses.replace(found, found_diameter_px=chosen.diameter_px)

    def predict_many(
        self, images: Iterable[AnyImage], *, threshold: float | None = None, limit: int | None = None
    ) -> Iterator[Instances]:
        """Find objects on any number of images: others are read and looked at while you use the objects of one.

        Only a few images are in memory at a time. Small ones are looked at by several workers, see `predict_in_order`.

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
        for _, found in self.predict_in_order(images, any_rgb8, threshold, limit, in_parallel=several):
            yield found.result()

    def predict_in_order(
        self,
        items: Iterable[Item],
        read: Callable[[Item], Rgb8],
        threshold: float | None = None,
        limit: int | None = None,
        in_parallel: bool = True,
        choose: Callable[[Item, Rgb8], ChosenScale] | None = None,
    ) -> Iterator[tuple[Item, Future[Instances]]]:
        """The objects of images, in their order; all that fails, reading included, is raised by its image's future.

        Small images are looked at by several workers at once, which share the processors: that takes less time than
        one after the other on all of them, as not every step has work for all. On a GPU, images of one size that wait
        for it go through the network as one batch. Arithmetic on another number of processors or images may round
        differently (nothing else differs), so `in_parallel` is to be decided by what was asked for, never by what
        happens to be left of it. How many images are in memory at once does not depend on how many there are.

        Args:
            items: what stands for the images; gone through in a thread of its own.
            read: gives the pixels, in that thread.
            threshold: as for `predict`.
            limit: likewise.
            in_parallel: False looks at one image at a time, with all processors; reading still goes on beside.
            choose: at which size an image is to be looked at, asked for after it was read; default `choose_scale`.
        """
        # what a first pass saved is measured in seconds, which others' work would spoil; the other runtimes share out
        # the processors themselves
        several = in_parallel and self.prefilter is None and self.backend.name == "torch"
        looking, workers = self._beside_others() if several else (self, 1)

        def read_for(item: Item) -> tuple[Rgb8, ChosenScale]:
            pixels = read(item)
            return pixels, self.choose_scale(pixels) if choose is None else choose(item, pixels)

        def look(given: tuple[Rgb8, ChosenScale]) -> Instances:
            pixels, chosen = given
            found = looking._at(chosen, pixels).predict(pixels, threshold=threshold, limit=limit)
            return dataclasses.replace(found, found_diameter_px=chosen.diameter_px)

        def large(given: tuple[Rgb8, ChosenScale]) -> bool:
            pixels, chosen = given
            return is_large(pixels.shape[:2], self._at(chosen, pixels).info.input)

        return read_and_look(items, read_for, look, large, workers)

    def _beside_others(self) -> tuple[Predictor, int]:
        """A predictor for several threads at once, and for how many."""
        if self.backend.images_at_once == 1:
            return self, min(torch.get_num_threads(), CPU_WORKERS)
        looking = self.on(BatchingBackend(self.backend, self.model.layout))
        return looking, self.backend.images_at_once + WORKERS_BESIDE

    def _look(self, pixels: Rgb8, threshold: float | None, limit: int | None) -> Instances:
        threshold = self.info.score_threshold if threshold is None else threshold
        limit = self.info.detection_limit if limit is None else limit
        limits, objects, passed = Limits.of(threshold, limit), None, None
        if self.prefilter is not None:
            objects, passed = self.prefilter.look(pixels, lambda regions: self._in(pixels, regions, limits))
        if objects is None:
            objects = self._in(pixels, [(0, 0, pixels.shape[1], pixels.shape[0])], limits)
        return dataclasses.replace(
            objects[:limit],
            score_threshold=threshold,
            saturated=objects.saturated or len(objects) > limit,
            prefilter=passed,
            scale=self.info.input.scale,
        )

    def prepared(self, image: AnyImage) -> Iterator[ImageBatch]:
        """What the network is given for an image: a batch of one for each of its tiles."""
        pixels = any_rgb8(image)
        windows, _ = self._windows([(0, 0, pixels.shape[1], pixels.shape[0])], (pixels.shape[0], pixels.shape[1]))
        gain = exposure_gain(pixels, self.info.input.stretch_below)
        return (prepare_batch(window.of(pixels), self.info.input, gain)[0] for window in windows)

    def _windows(self, regions_xyxy: Sequence[Box], size_hw: tuple[int, int]) -> tuple[list[Tile], int]:
        """The tiles that some regions of an image go through the network in, and how far each sees beyond its core."""
        rules = self.info.input
        most_px = max(*size_hw) if rules.scale is None else max(int(rules.longest_side / rules.scale), 1)
        overlap_px = math.ceil(OVERLAP_PX / (GRID_PX * (rules.scale or 1))) * GRID_PX
        overlap_px = min(overlap_px, (most_px - 1) // 4)  # a small tile is still mostly core
        return [one for region in regions_xyxy for one in tiles(region, size_hw, most_px, overlap_px)], overlap_px

    def _in(self, pixels: Rgb8, regions_xyxy: Sequence[Box], limits: Limits) -> Instances:
        """The objects in some regions of an image that do not overlap; at least one region."""
        size_hw = (pixels.shape[0], pixels.shape[1])
        windows, overlap_px = self._windows(regions_xyxy, size_hw)
        gain = exposure_gain(pixels, self.info.input.stretch_below)
        prepared = (prepare_batch(window.of(pixels), self.info.input, gain) for window in windows)
        found = [
            (window, objects.translate(*window.outer_xyxy[:2], size_hw))
            for window, objects in zip(windows, self._look_at(prepared, limits), strict=True)
        ]
        return found[0][1] if len(found) == 1 else merge(found, overlap_px)

    def _look_at(self, prepared: Iterable[tuple[ImageBatch, Resized]], limits: Limits) -> Iterator[Instances]:
        """The objects in each prepared window; those of one size go through the network together, if that pays."""
        for group in alike(prepared, self.backend.images_at_once):
            outputs = run_checked(
                self.backend, self.model, ImageBatch.concatenate([batch for batch, _ in group]), limits
            )
            with torch.inference_mode():
                found = self.model.decode(outputs, [size for _, size in group], limits)
                for objects, (batch, size) in zip(found, group, strict=True):
                    yield dataclasses.replace(objects, novelty=self._novelty(batch, size))

    def _novelty(self, batch: ImageBatch, size: Resized) -> float | None:
        """How unlike the known images a prepared one is, where the model's file says what those looked like."""
        if (known := self.info.novelty) is None:
            return None
        height, width = size.network_hw
        prepared = batch.tensor[0, :, :height, :width]
        return known.of(appearance(prepared, self.info.input, known.cell_px, self._octaves))

    def with_prefilter(self, semantic: Predictor) -> Predictor:
        """The same predictor, but it looks only where another, of a U-Net, saw something in the reduced image.

        Raises:
            ArgumentError: the other predictor's network does not say what each pixel shows; or this one brings all
                images to one size, and so would show its network each region at another scale.
        """
        if self.info.input.scale is None:
            raise ArgumentError("a first pass needs a model that was trained with a scale, not one that fits sides")
        look = Prefilter(semantic.model, semantic.info, semantic.backend)
        return Predictor(self.model, self.info, self.device, look, self.backend, self.size_network)

    def on(self, backend: Backend) -> Predictor:
        """The same predictor with its network run by something else, see `halfpixel.open_backend`."""
        return Predictor(self.model, self.info, self.device, self.prefilter, backend, self.size_network)

    def fast(self) -> Predictor:
        """The same predictor, looking at images at two thirds of the size: faster, worse on small objects.

        A calibration does not hold for it, and is left out.

        Raises:
            ArgumentError: the network takes images of one size only.
        """
        return self._described(faster(self.info))

    def at_scale(self, scale: float) -> Predictor:
        """The same predictor, looking at all images enlarged by this factor; one below 1 makes them smaller.

        A calibration that was made at another scale, by more than a tenth, is left out.

        Raises:
            ArgumentError: a factor out of range, or the network takes images of one size only.
        """
        return self._described(enlarging(self.info, scale))

    def without_size_finder(self) -> Predictor:
        """The same predictor, looking at all images as the model's `InputRules` say, whatever their objects' size."""
        if self.info.size_finder is None:
            return self
        return self._described(dataclasses.replace(self.info, size_finder=None))

    @property
    def size_finder(self) -> SizeFinder | None:
        """Finds how large an image's objects are; None where the model has no such network, or is not to use it."""
        return SizeFinder.of_model(self.size_network, self.info)

    @property
    def chooses_scale(self) -> bool:
        """Whether it looks at images of objects of other sizes, or of other pixels, at another size than usual."""
        sizes = self.info.diameters
        return sizes is not None and (self.size_finder is not None or sizes.network_um is not None)

    def choose_scale(self, pixels: Rgb8, pixel_size_um: float | None = None) -> ChosenScale:
        """At which size to look at an image, by the size of its pixels or of the objects that are found in it.

        The model's own, unless objects are clearly outside of the sizes that it was trained on, see
        `TrainedDiameters.scale_for` and `SizeFinderInfo.error_octaves`.

        Args:
            pixels: `[h, w, 3]`, RGB.
            pixel_size_um: of the image, where that is known: it decides where the model was trained on pixels of one.
        """
        return choose_scale(self.info, self.size_finder, pixels, pixel_size_um)

    def _at(self, chosen: ChosenScale, pixels: Rgb8) -> Predictor:
        if chosen.scale is None:
            return self.without_size_finder()
        looking = self.at_scale(chosen.scale)
        looking._octaves = octaves_from_usual(chosen, (pixels.shape[0], pixels.shape[1]), self.info.input)
        return looking

    def for_diameter(self, diameter_px: float) -> Predictor:
        """The same predictor, looking at images of objects of this size as large as it knows objects to be.

        Within the sizes that it was trained on nothing changes; smaller objects are enlarged more and larger ones less,
        see `scale_for`.

        Args:
            diameter_px: of the circle that has an object's area, in pixels of the image.

        Raises:
            ArgumentError: the model does not state the sizes that it was trained on, or the diameter is out of range.
        """
        scale = self.scale_for(diameter_px)
        return self.without_size_finder() if scale == self.info.input.scale else self.at_scale(scale)

    def scale_for(self, diameter_px: float) -> float:
        """By which factor images of objects of this size are best enlarged, see `TrainedDiameters.scale_for`.

        Raises:
            ArgumentError: the model does not state the sizes that it was trained on, or the diameter is not above 0.
        """
        if self.info.diameters is None:
            raise ArgumentError(
                "`diameter`: the model does not state the sizes of the objects that it was trained on; give the factor "
                "by which to enlarge images instead (`scale`)"
            )
        return self.info.diameters.scale_for(diameter_px, self.info.input.scale)

    def _described(self, info: ModelInfo) -> Predictor:
        """The same predictor with another description; may be called while others use this one."""
        changed = copy.copy(self)
        changed.info = info
        return changed

    def with_classes(self, class_names: Sequence[str]) -> Predictor:
        """A copy for other classes, to be trained: the last layers are new, all else is kept.

        Raises:
            ArgumentError: no names, or the same one twice; or a network that only predicts.
        """
        check_weights(self.model, "be given other classes")
        if isinstance(class_names, str):
            raise ArgumentError(f"expected a list of class names, got {class_names!r}")
        info = dataclasses.replace(
            self.info,
            class_names=tuple(class_names),
            measured={},
            calibration=None,
            size_finder=None,
            novelty=None,
        )
        return Predictor(self.model.with_classes(class_names), info, self.device)

    def close(self) -> None:
        """Give back the memory that running the network takes; it may still predict, and takes it again."""
        self.backend.close()

    def save(self, path: str | Path) -> None:
        """Write a model file that `halfpixel.load` reads.

        Raises:
            ArgumentError: a network that only predicts.
        """
        check_weights(self.model, "be written as a model file")
        save_model(Path(path), self.model, self.info, size_network=self.size_network)
