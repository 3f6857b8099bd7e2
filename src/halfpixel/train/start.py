"""Where a run starts: from a model that is there, or from a network with fresh weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from halfpixel.data.dataset import Dataset
from halfpixel.engine.load import load
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network, check_weights
from halfpixel.nn.size_network import SizeNetwork
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.download import Progress
from halfpixel.zoo.modelfile import ModelInfo, build, load_backbone, settings_of, variant_names
from halfpixel.zoo.names import check_start


@dataclass(frozen=True, eq=False)
class Start:
    """What a run begins with.

    Attributes:
        network: is trained in place; shares nothing with a predictor that it was taken from.
        info: its description, which says where the weights come from.
        device: where the trained network is to predict; None for the best there is.
        new_layers: the last layers are new, as the data has other classes than the start model.
        from_scratch: all layers are, but for a backbone that was given.
        size_network: finds how large objects are, for the trained model as it did for the start, which had the same
            classes, or for the model that it was taken from; it is not trained.
    """

    network: Network
    info: ModelInfo
    device: torch.device | None = None
    new_layers: bool = False
    from_scratch: bool = False
    size_network: SizeNetwork | None = None


def start_from(
    model: Predictor | str | Path,
    dataset: Dataset,
    *,
    backbone: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    size_finder: Predictor | str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Start:
    """A network to train on a data set.

    Where the classes of the data are those of the model, in the same order, its last layers are kept; otherwise they
    are new. A network can be trained in stages: `settings={"masks": False}` for boxes first, and a second run that
    starts from the file of the first with `settings={"masks": True}`.

    Args:
        model: a predictor, which stays as it is; a named model; a model file; or a network to train from scratch, by
            the name of its variant.
        dataset: names the classes.
        backbone: for a network from scratch: a safetensors file of ImageNet weights under timm's names.
        settings: fields of the network's `Settings` that are to be others; layers that it has with them alone are new.
        size_finder: a model whose small network finds how large these objects are: the trained model takes it along,
            and is shown images at the sizes at which it will look at them. Default: that of the start model, where the
            classes are the same.
        seed: of new weights; torch's own generator is set to it.
        progress: told of a download's pieces.

    Raises:
        ModelFileError: no such model, or a file cannot be used.
        DownloadError: a named model could not be fetched.
        ArgumentError: a backbone for a model that has one; a network that only predicts; or no size finder where one is
            to be taken from.
    """
    start = _start_from(model, dataset, backbone, settings, seed, progress)
    return start if size_finder is None else _finding_sizes(start, size_finder, progress)


def _start_from(
    model: Predictor | str | Path,
    dataset: Dataset,
    backbone: Path | None,
    settings: Mapping[str, Any] | None,
    seed: int,
    progress: Progress | None,
) -> Start:
    torch.manual_seed(seed)
    if not isinstance(model, Predictor):
        check_start(model)
    if isinstance(model, str) and model in variant_names():
        return _from_scratch(model, dataset, backbone, settings)
    given = isinstance(model, Predictor)
    name = model.info.variant if isinstance(model, Predictor) else Path(model).name
    if backbone is not None:
        called = name if given else model
        raise ArgumentError(f"`backbone` is for networks from scratch ({', '.join(variant_names())}), not for {called}")
    predictor = model if isinstance(model, Predictor) else load(model, progress=progress)
    try:
        check_weights(predictor.model, "be trained")
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from error
    new_layers = predictor.class_names != dataset.class_names
    if new_layers:
        predictor = predictor.with_classes(dataset.class_names)
    network = copy.deepcopy(predictor.model) if given and not new_layers else predictor.model
    before = f" ({predictor.info.source})" if predictor.info.source else ""
    source = f"trained on {dataset.name}, starting from {name}{before}"
    info = dataclasses.replace(predictor.info, source=source, measured={}, calibration=None)
    if settings:
        network = with_settings(network, info.variant, settings)
        info = dataclasses.replace(info, settings=settings_of(network))
    return Start(network, info, predictor.device, new_layers, size_network=predictor.size_network)


def _finding_sizes(start: Start, model: Predictor | str | Path, progress: Progress | None) -> Start:
    """With the size finder of a model."""
    predictor = model if isinstance(model, Predictor) else load(model, progress=progress)
    if predictor.size_network is None or predictor.info.size_finder is None:
        name = predictor.info.variant if isinstance(model, Predictor) else model
        raise ArgumentError(f"`size_finder`: {name} does not find how large objects are; nuclei does")
    info = dataclasses.replace(start.info, size_finder=predictor.info.size_finder)
    return dataclasses.replace(start, info=info, size_network=predictor.size_network)


def with_settings(network: Network, variant: str, settings: Mapping[str, Any]) -> Network:
    """A network with other settings: what it has in common with the given one is kept, all else is new.

    Args:
        network: stays as it is.
        variant: its name.
        settings: fields that are to be others.

    Raises:
        ModelFileError: settings that are unknown, of another type or out of range.
    """
    changed = build(variant, network.class_names, {**settings_of(network), **settings})
    kept, state = network.state_dict(), changed.state_dict()
    fits = {name for name, tensor in state.items() if name in kept and kept[name].shape == tensor.shape}
    changed.load_state_dict({name: kept[name] if name in fits else tensor for name, tensor in state.items()})
    return changed


def suited(network: Network, given: Mapping[str, Any] | None = None) -> Recipe:
    """How to train a network: what was given, before what suits it (its `RECIPE`), before what is usual.

    Raises:
        ArgumentError: together they are out of range.
    """
    return Recipe(**{**network.RECIPE, **(given or {})})


def _from_scratch(variant: str, dataset: Dataset, backbone: Path | None, settings: Mapping[str, Any] | None) -> Start:
    network = build(variant, dataset.class_names)
    if settings:
        network = with_settings(network, variant, settings)
    source = f"trained from scratch on {dataset.name}"
    if backbone is not None:
        load_backbone(network, backbone)
        source = f"trained on {dataset.name}, the backbone starting from {backbone.name}"
    info = ModelInfo(variant, dataset.class_names, settings=settings_of(network), source=source)
    return Start(network, info, from_scratch=True)
