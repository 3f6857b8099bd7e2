"""The same gradients of convolutions, sooner, on processors with AVX2 and no AVX-512.

With channels last, oneDNN takes three times as long there for the weights' gradients of dense convolutions on large
maps as with channels first, the copies included; for all else channels last are faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FEWEST_CHANNELS = 8
"""Convolutions of fewer, such as an image's, are faster as they are."""

Pair = int | Sequence[int]


class WeightGradients(TorchFunctionMode):
    """A context in which losses are computed: backward then takes less time, on whatever machine that helps."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute convolutions that are slow to train in another way, and all else as ever."""
        if func is torch.conv2d:
            return _conv2d(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor:
    if groups > 1 or isinstance(padding, str) or not _is_slow(input, weight):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    where = _pair(stride), _pair(padding), _pair(dilation)
    found: Tensor = _Convolution.apply(input, weight, bias, *where)  # type: ignore[no-untyped-call]
    return found


def _is_slow(input: Tensor, weight: Tensor) -> bool:
    return (
        torch.backends.cpu.get_cpu_capability() == "AVX2"
        and torch.is_grad_enabled()
        and weight.requires_grad
        and weight.shape[1] >= FEWEST_CHANNELS
        and min(weight.shape[2:]) > 1
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and input.is_contiguous(memory_format=torch.channels_last)
        and not input.is_contiguous()
    )


def _pair(one: Pair) -> list[int]:
    return [one, one] if isinstance(one, int) else list(one)


class _Convolution(torch.autograd.Function):
    """A dense convolution that computes its weights' gradient from copies with channels first."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.biases = None if bias is None else list(bias.shape)
        ctx.where = stride, padding, dilation, False, [0, 0], 1
        return torch.conv2d(input, weight, bias, stride, padding, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        backward, (of_input, of_weight, of_bias) = torch.ops.aten.convolution_backward, ctx.needs_input_grad[:3]
        found: list[Tensor | None] = [None, None, None]
        if of_input:
            found[0] = backward(gradient, input, weight, None, *ctx.where, [True, False, False])[0]
        if of_weight or of_bias:
            first = (one.contiguous() for one in (gradient, input, weight))
            found[1:] = backward(*first, ctx.biases, *ctx.where, [False, of_weight, of_bias])[1:]
        return (*found, None, None, None)
