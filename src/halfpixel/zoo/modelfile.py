"""The self-describing model file: weights and everything needed to use them, in one `.safetensors` file."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from halfpixel import models
from halfpixel.errors import ArgumentError, ModelFileError, reason
from halfpixel.files import write_whole
from halfpixel.nn.network import Network
from halfpixel.nn.size_network import SizeNetwork
from halfpixel.ops.finite import all_finite
from halfpixel.structures.calibration import Calibration
from halfpixel.structures.diameters import SizeFinderInfo, TrainedDiameters
from halfpixel.structures.field_check import AnyDataclass, Count, Name, Text, check_fields, from_plain
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import Novelty
from halfpixel.zoo.fitting import filled, outline

MODEL_MODULES = tuple(import_module(f"halfpixel.models.{one.name}") for one in iter_modules(models.__path__))
"""Every file of `halfpixel.models`, so that a new one is known by being there."""

FORMAT = 1

MOST_CLASSES = 100_000

DESCRIPTION = "halfpixel"
"""The name under which a file holds what its model says of itself."""

SIZE_FINDER = "size_finder"
"""The names of the weights of the network that finds sizes begin with this and a dot."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says about itself.

    Attributes:
        variant: which network, a name in some model's `VARIANTS`.
        class_names: class 0 is the first real one.
        input: how images are prepared.
        settings: the network's settings, as plain values; none at all stand for the variant's own.
        score_threshold: objects scoring less are not reported unless asked for.
        detection_limit: at most this many objects an image unless told otherwise.
        source: where the weights come from.
        licence: of the weights, an SPDX name.
        recipe: how they were trained, as plain values.
        measured: what was measured, as plain values, each with its definition.
        calibration: what scores and counts are worth on a user's own images, None if nobody calibrated the model; it
            holds at this `score_threshold` only.
        diameters: the sizes of objects that it was trained on, None where nobody measured them.
        size_finder: of the small network in the file that finds how large an image's objects are, None without one.
        novelty: what the images looked like that it was trained or, later, calibrated on; None likewise.

    Raises:
        ArgumentError: a value of another type or out of its range, or two classes of one name.
    """

    variant: Name
    class_names: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=MOST_CLASSES)]
    input: InputRules = field(default_factory=InputRules)
    settings: Mapping[str, Any] = field(default_factory=dict)
    score_threshold: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    detection_limit: Count = 1000
    source: Text = ""
    licence: Text = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    diameters: TrainedDiameters | None = None
    size_finder: SizeFinderInfo | None = None
    novelty: Novelty | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        twice = [name for name, n in Counter(self.class_names).items() if n > 1]
        if twice:
            raise ArgumentError(f"class_names: {twice[0]!r} is there twice")


def variant_names() -> tuple[str, ...]:
    """Names of all networks that can be built."""
    return tuple(name for module in MODEL_MODULES for name in module.VARIANTS)


class Variant(NamedTuple):
    """A network that can be built.

    Attributes:
        name: in some model's `VARIANTS`.
        summary: one line.
        paper: of its docstring, or else its file's, the first that is named: its number on arXiv.
        finds: masks, or boxes alone.
        parameters: how many weights it has, for one class.
    """

    name: str
    summary: str
    paper: str
    finds: Literal["boxes", "masks"]
    parameters: int


def variants() -> tuple[Variant, ...]:
    """All networks that can be built; none of them is."""
    found = []
    for module in MODEL_MODULES:
        for name, make in module.VARIANTS.items():
            network = outline(partial(make, ("object",), None))
            said = make.__doc__ or ""
            paper = re.search(r"arXiv:(\d{4}\.\d{5})", said + (module.__doc__ or ""))
            found.append(
                Variant(
                    name,
                    said.partition("\n")[0],
                    paper[1] if paper else "",
                    "masks" if {"masks", "maps", "probabilities"} & set(network.layout) else "boxes",
                    sum(p.numel() for p in network.parameters()),
                )
            )
    return tuple(found)


def build(variant: str, class_names: tuple[str, ...], settings: Mapping[str, Any] | None = None) -> Network:
    """A network with fresh weights.

    Args:
        variant: a name in some model's `VARIANTS`.
        class_names: one output each.
        settings: fields of the model's `Settings`; None for the variant's own.

    Raises:
        ModelFileError: no such variant, or settings that are unknown, of another type or out of range.
    """
    for module in MODEL_MODULES:
        if variant in module.VARIANTS:
            try:
                chosen = None if settings is None else from_plain(module.Settings, _current(module.Settings, settings))
            except ArgumentError as error:
                raise ModelFileError(f"settings of {variant}: {error}") from error
            model: Network = module.VARIANTS[variant](class_names, chosen)
            return model
    raise ModelFileError(f"there is no network called {variant!r}; known are {', '.join(variant_names())}")


def _current(kind: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a file without those that nothing follows from any more, `FORMER` of their class."""
    former = getattr(kind, "FORMER", ())
    return {name: value for name, value in settings.items() if name not in former}


def build_described(info: ModelInfo, path: Path) -> Network:
    """A network with fresh weights, as a file describes it.

    Raises:
        ModelFileError: see `build`; it names the file.
    """
    try:
        return build(info.variant, info.class_names, info.settings or None)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def save_model(
    path: Path, model: nn.Module, info: ModelInfo, *, half: bool = False, size_network: SizeNetwork | None = None
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: the file; a `.safetensors` name is expected by readers.
        model: its weights.
        info: its description.
        half: store floating-point weights in float16, but for variances and what it cannot hold.
        size_network: what finds the sizes of objects, where the description has an entry of it; without it the entry
            is left out.
    """
    named = dict(model.state_dict())
    if size_network is None or info.size_finder is None:
        info = dataclasses.replace(info, size_finder=None)
    else:
        named |= {f"{SIZE_FINDER}.{name}": tensor for name, tensor in size_network.state_dict().items()}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    if half:
        state = {name: _halved(name, tensor) for name, tensor in state.items()}
    write_whole(path, save(state, metadata={DESCRIPTION: description_of(info)}))


def _halved(name: str, tensor: Tensor) -> Tensor:
    """In float16, if that can hold it: it has nothing between 0 and 6e-8, and many a channel's variance is there."""
    if not tensor.is_floating_point() or name.endswith("running_var"):
        return tensor
    half = tensor.half()
    return half if all_finite(half) else tensor


def save_described(path: Path, source: Path, info: ModelInfo) -> None:
    """Write a copy of a model file with another description; the weights stay as they are, to the bit.

    Args:
        path: the copy; it may be the same file.
        source: the model file.
        info: the new description.

    Raises:
        ModelFileError: see `read_info`.
    """
    read_info(source)
    with safe_open(source, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if info.size_finder is None:
        state = {name: tensor for name, tensor in state.items() if not _is_of_size_finder(name)}
    write_whole(path, save(state, metadata={DESCRIPTION: description_of(info)}))


def _is_of_size_finder(name: str) -> bool:
    return name.startswith(f"{SIZE_FINDER}.")


def description_of(info: ModelInfo) -> str:
    """A description as it stands in a file."""
    description = {"format": FORMAT, **dataclasses.asdict(info), "input": info.input.to_plain()}
    if info.calibration is not None:
        description["calibration"] = info.calibration.to_json()
    for name in ("calibration", "diameters", SIZE_FINDER, "novelty"):
        if description[name] is None:  # versions that know nothing of it read all other files
            del description[name]
    return json.dumps(description)


def read_info(path: Path) -> ModelInfo:
    """The description in a model file, without its weights.

    Raises:
        ModelFileError: missing, not a safetensors file, or not one of ours.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(DESCRIPTION)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: not a safetensors model file ({reason(error)})") from error
    if text is None:
        raise ModelFileError(
            f"{path}: a safetensors file, but not a halfpixel model (it has no description); "
            "beside one of transformers there has to be its config.json"
        )
    return parse_info(text, path)


def is_described(path: Path) -> bool:
    """Whether a safetensors file says what model it is of ours; False of what is no such file."""
    try:
        with safe_open(path, framework="pt") as file:
            return DESCRIPTION in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def parse_info(text: str, path: Path) -> ModelInfo:
    """A description as it stands in a file, here or in one that was exported.

    Raises:
        ModelFileError: not one of ours, or of a newer version.
    """
    try:
        description = json.loads(text)
        if not isinstance(description, dict) or type(version := description.pop("format", None)) is not int:
            raise ArgumentError("it does not say in which format it is")
        if version > FORMAT:
            raise ModelFileError(f"{path}: written by a newer halfpixel; please upgrade")
        description["input"] = _part(InputRules, "input", description.get("input"))
        if "calibration" in description:
            description["calibration"] = Calibration.from_json(description["calibration"])
        if "diameters" in description:
            description["diameters"] = _part(TrainedDiameters, "diameters", description["diameters"])
        if SIZE_FINDER in description:
            description[SIZE_FINDER] = _part(SizeFinderInfo, SIZE_FINDER, description[SIZE_FINDER])
        if "novelty" in description:
            description["novelty"] = _part(Novelty, "novelty", description["novelty"])
        return from_plain(ModelInfo, description)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: the model's description is broken ({reason(error)})") from error


def _part(kind: type[AnyDataclass], name: str, plain: object) -> AnyDataclass:
    try:
        return from_plain(kind, plain)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from error


def load_model(path: Path) -> tuple[Network, ModelInfo]:
    """The network and its description, weights in float32, ready to predict.

    Raises:
        ModelFileError: see `read_info`; also when the weights do not fit the network or are not finite.
    """
    info = read_info(path)
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if info.size_finder is None or not _is_of_size_finder(name)]  # noqa: SIM118
        weights = {name: file.get_tensor(name) for name in names}
    what = f"the weights of {info.variant}"
    try:
        model = filled(lambda: build(info.variant, info.class_names, info.settings or None), weights, what)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return model, info


def load_size_network(path: Path, info: ModelInfo) -> SizeNetwork | None:
    """The network in a model file that finds the sizes of objects, ready to predict; None where there is none.

    Args:
        path: the file.
        info: its description.

    Raises:
        ModelFileError: its weights are not those of such a network, or not finite.
    """
    if info.size_finder is None:
        return None
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys() if _is_of_size_finder(name)}  # noqa: SIM118
    try:
        found = filled(lambda: nn.ModuleDict({SIZE_FINDER: SizeNetwork()}), weights, "the weights of the size finder")
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    network = found[SIZE_FINDER]
    assert isinstance(network, SizeNetwork)
    return network


def settings_of(model: Network) -> dict[str, Any]:
    """A network's settings as plain values, for its description."""
    return dataclasses.asdict(model.settings)


def load_backbone(model: Network, path: Path) -> None:
    """Put ImageNet weights under timm's names into a network's backbone.

    Raises:
        ModelFileError: unreadable, or the weights of another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path}: not a safetensors file of backbone weights ({reason(error)})") from error
    try:
        model.backbone.load_imagenet(state)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
