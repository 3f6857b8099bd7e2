"""A head without anchors: each point of a pyramid says class, box and the weights of a small network for its mask.

The small network has three layers of 1 x 1 convolutions: 10 channels (two of coordinates, eight of maps that all
objects share), 8, 8 and 1; 169 numbers (Tian et al. 2020, arXiv:2003.05664; here as in RTMDet, Lyu et al. 2022,
arXiv:2212.07784).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.cspnext import SiluConv, start_before_silu
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, Norm
from halfpixel.nn.few_cells import in_pyramid
from halfpixel.ops.wide import wide

MAPS = 8
"""Channels that all objects share."""
HIDDEN = 8
LAYERS = ((2 + MAPS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1))
"""Inputs and outputs of the small networks' layers."""
NUMBERS = sum(inputs * outputs for inputs, outputs in LAYERS) + sum(outputs for _, outputs in LAYERS)
KERNEL = NUMBERS + 3
"""What an object needs for its mask: all weights, all biases, its point (x, y) and the unit of its coordinates, px."""
REACH = 8
"""Strides of an object's level to a unit of its coordinates."""

MASK_CONVS = 4
RARE = 0.01
"""How likely an object is anywhere, before training."""


PointKernels = Callable[[int | Int[Tensor, "n"], Int[Tensor, "n"]], Float[Tensor, "n k"]]
"""From the image that points are in, or each one's, and the points the numbers of their masks: those of all points
would fill the memory."""


class PointOutputs(NamedTuple):
    """What the head says of each point, all levels one after the other, in float32 or wider."""

    logits: Float[Tensor, "b p classes"]
    boxes_xyxy: Float[Tensor, "b p 4"]
    kernels: PointKernels
    maps: Float[Tensor, "b m h w"]
    points_xy: Float[Tensor, "p 2"]
    strides: Float[Tensor, "p"]


class SharedConv(nn.Module):
    """One convolution for all levels, a normalisation for each, SiLU."""

    def __init__(self, channels: int, levels: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = start_before_silu(nn.Conv2d(channels, channels, 3, padding=1, bias=norm is None))
        self.norms = nn.ModuleList(norm(channels) if norm is not None else nn.Identity() for _ in range(levels))

    def forward(self, x: Float[Tensor, "b c h w"], level: int) -> Float[Tensor, "b c h w"]:
        """Same shape out as in."""
        return nn.functional.silu(self.norms[level](self.conv(x)))


class DynamicHead(nn.Module):
    """The head.

    Class and box come from the same two convolutions, whose weights all levels share; a mask's numbers come from two of
    each level's own. Sides are told as distances from the point in units of the stride, cut off below zero.

    Args:
        channels: of each map of the pyramid, and inside.
        classes: how many.
        strides: of the pyramid's levels, in pixels of the input, fine to coarse; the shared maps have the first.
        cell_point: where in its cell a point is, along both axes: .5 is the centre, 0 the corner at the top left.
        norm: normalisation after each convolution, if any.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        strides: Sequence[int],
        cell_point: float = 0.5,
        norm: Norm | None = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        levels = len(strides)
        self.channels, self.strides, self.cell_point = channels, tuple(strides), cell_point
        self.tower = nn.ModuleList(SharedConv(channels, levels, norm) for _ in range(2))
        self.kernel_towers = nn.ModuleList(
            nn.Sequential(*(SiluConv(channels, channels, 3, norm) for _ in range(2))) for _ in strides
        )
        self.distances = nn.ModuleList(_nearly_constant(channels, 4, 1.0) for _ in strides)
        self.filters = nn.ModuleList(_one_small_network(channels) for _ in strides)
        self.fuse = nn.Conv2d(levels * channels, channels, 1)
        self.mask_convs = nn.Sequential(*(SiluConv(channels, channels, 3, norm) for _ in range(MASK_CONVS)))
        self.maps = nn.Conv2d(channels, MAPS, 1)
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the last layers of the classes by new ones."""
        self.logits = nn.ModuleList(
            _nearly_constant(self.channels, classes, -math.log(1 / RARE - 1)) for _ in self.strides
        )

    @property
    def output_layers(self) -> tuple[str, ...]:
        """Names of the layers that say something in the end."""
        names = ("logits", "distances", "filters")
        return (*(f"{name}.{k}" for name in names for k in range(len(self.strides))), "maps")

    def forward(self, pyramid: Sequence[Float[Tensor, "b c _ _"]]) -> PointOutputs:
        """What there is at each point of a pyramid, fine to coarse."""
        logits, boxes_xyxy, features, points, strides = [], [], [], [], []
        for level, (x, stride) in enumerate(zip(pyramid, self.strides, strict=True)):
            shared = x
            for conv in self.tower:
                shared = conv(shared, level)
            points.append(self._points(x, stride))
            strides.append(torch.full_like(points[-1][:, 0], stride))
            logits.append(_rows(self.logits[level](shared)))
            low, high = (_rows(self.distances[level](shared)).relu() * stride).chunk(2, 2)
            boxes_xyxy.append(torch.cat([points[-1] - low, points[-1] + high], 2))
            if not self.training:
                features.append(self.kernel_towers[level](x).flatten(2).transpose(1, 2))
        of_masks, places, sides = torch.cat(features, 1) if features else None, torch.cat(points), torch.cat(strides)

        def kernels(image: int | Tensor, chosen: Tensor) -> Tensor:
            side = sides[chosen, None]
            if of_masks is None:  # in training: what the towers say in a few hundred points
                images = torch.as_tensor(image, device=chosen.device).expand(len(chosen))
                seen = in_pyramid([tower.children() for tower in self.kernel_towers], pyramid, images, chosen)
            else:
                seen = of_masks[image, chosen]
            return torch.cat([self._numbers(seen, side), places[chosen], REACH * side], 1)

        return PointOutputs(
            torch.cat(logits, 1),
            torch.cat(boxes_xyxy, 1),
            kernels,
            wide(self.shared_maps(pyramid)),
            places,
            sides,
        )

    def _numbers(self, features: Float[Tensor, "n c"], sides: Float[Tensor, "n 1"]) -> Float[Tensor, "n 169"]:
        """What each point's level makes of its features."""
        cells = features[:, :, None, None]
        of_levels = [
            torch.where(sides == own, wide(layer(cells)).flatten(1), 0.0)
            for own, layer in zip(self.strides, self.filters, strict=True)
        ]
        return torch.stack(of_levels).sum(0)

    def shared_maps(self, pyramid: Sequence[Float[Tensor, "b c _ _"]]) -> Float[Tensor, "b m h w"]:
        """As large as the finest level, and made of all."""
        size = pyramid[0].shape[-2:]
        enlarged = [nn.functional.interpolate(x, size=size, mode="bilinear") for x in pyramid[1:]]
        out: Tensor = self.maps(self.mask_convs(self.fuse(torch.cat([pyramid[0], *enlarged], 1))))
        return out

    def _points(self, x: Tensor, stride: int) -> Float[Tensor, "p 2"]:
        """Where the cells of a map have their points, in pixels of the input."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        across, down = (
            (torch.arange(x.shape[axis], device=x.device, dtype=dtype) + self.cell_point) * stride for axis in (3, 2)
        )
        y, x = torch.meshgrid(down, across, indexing="ij")
        return torch.stack([x.flatten(), y.flatten()], 1)


def _nearly_constant(inputs: int, outputs: int, value: float) -> nn.Conv2d:
    """A last layer that says almost the same everywhere, before training."""
    layer = nn.Conv2d(inputs, outputs, 1)
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, value)
    return layer


def _one_small_network(inputs: int) -> nn.Conv2d:
    """A last layer that says nearly the same usual weights everywhere: from zeros, three layers would hardly learn."""
    layer = nn.Conv2d(inputs, NUMBERS, 1)
    assert layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    weights = layer.bias.detach().split([into * out for into, out in LAYERS] + [sum(out for _, out in LAYERS)])
    for weight, (into, _) in zip(weights, LAYERS, strict=False):
        nn.init.normal_(weight, std=(2 / into) ** 0.5)
    return layer


def dynamic_logits(
    features: Float[Tensor, "n m h w"],
    kernels: Float[Tensor, "n k"],
    first_xy: Int[Tensor, "n 2"],
    stride: int,
    cell_point: float,
) -> Float[Tensor, "n h w"]:
    """The small network of each object, applied to its window of the maps.

    Args:
        features: windows of the shared maps.
        kernels: `KERNEL` numbers each.
        first_xy: the first cell of each window.
        stride: of the maps, in pixels of the input.
        cell_point: see `DynamicHead`.
    """
    numbers, point_xy, unit = kernels.split((NUMBERS, 2, 1), 1)
    sizes = [inputs * outputs for inputs, outputs in LAYERS] + [outputs for _, outputs in LAYERS]
    parts = numbers.split(sizes, 1)
    height, width = features.shape[2:]
    first = (point_xy - (first_xy + cell_point) * stride) / unit  # how far the point is from the first cell's
    steps = [torch.arange(count, device=unit.device, dtype=unit.dtype) * stride / unit for count in (width, height)]
    across, down = (first[:, :1] - steps[0])[:, None, :], (first[:, 1:] - steps[1])[:, :, None]
    coordinates = torch.stack([across.expand(-1, height, -1), down.expand(-1, -1, width)], 1)
    out = torch.cat([coordinates, features], 1).flatten(2)
    for k, (inputs, outputs) in enumerate(LAYERS):
        weight = parts[k].reshape(-1, outputs, inputs)
        out = torch.baddbmm(parts[len(LAYERS) + k][:, :, None], weight, out)
        out = out.relu() if k < len(LAYERS) - 1 else out
    return out.reshape(-1, height, width)


def _rows(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b p c"]:
    """A row for each cell."""
    return wide(x.flatten(2).transpose(1, 2))
