"""Whether weights fit a network: all is compared before any memory is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from halfpixel.errors import ModelFileError
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d
from halfpixel.ops.finite import all_finite

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def filled(make: Callable[[], AnyModule], weights: Mapping[str, Tensor], what: str) -> AnyModule:
    """A network with weights under our names, in evaluation mode.

    Args:
        make: constructs it.
        weights: all of them, and no others.
        what: whose weights they should be, for the message.

    Raises:
        ModelFileError: one is missing, unexpected, of another shape or type, or not finite; it is named.
    """
    expected = outline(make).state_dict()
    for name in sorted(set(expected) ^ set(weights)):
        raise ModelFileError(f"not {what}: {name} is {'missing' if name in expected else 'unexpected'}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise ModelFileError(f"not {what}: {name} is {shapes}")
        if kind_of(tensor) != kind_of(expected[name]):
            kinds = f"{kind_of(tensor)}, expected {kind_of(expected[name])}"
            raise ModelFileError(f"not {what}: the values of {name} are {kinds}")
    model = make()
    model.load_state_dict(dict(weights))
    check_finite(model)
    return model.eval()


def outline(make: Callable[[], AnyModule]) -> AnyModule:
    """A network without memory: what is described may be larger than any."""
    with torch.device("meta"), _NoFreshWeights():
        return make()


class _NoFreshWeights(TorchFunctionMode):
    """Leaves out random numbers: for tensors without memory torch would load its compiler to make them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def kind_of(tensor: Tensor) -> str:
    """What kind of numbers: however precise, they may stand for each other."""
    if re.search(r"x\d$", str(tensor.dtype)):
        return "several in a byte"
    if tensor.is_complex():
        return "complex numbers"
    return "floating-point numbers" if tensor.is_floating_point() else "whole numbers"


def check_finite(model: nn.Module) -> None:
    """Refuse weights that no number can come of.

    Raises:
        ModelFileError: a tensor holds NaN or infinity, or variances that a normalisation cannot divide by; it is named.
    """
    for name, tensor in model.state_dict().items():
        if not all_finite(tensor):
            raise ModelFileError(f"the weights {name} are not finite")
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d) and not bool((module.running_var + module.eps > 0).all()):
            raise ModelFileError(f"the weights {name}.running_var are no variances: some are not above 0")
