"""3 x 3 convolutions with a quarter of the multiplications (Lavin and Gray 2016, arXiv:1509.09308: F(4 x 4, 3 x 3)).

A tile of 4 x 4 outputs needs 6 x 6 inputs. Both are polynomials' values at six points, and there the convolution is a
product: 36 multiplications instead of 144. Going to the points and back are a few additions. What is left, 36 matrix
products over the channels, is what processors do fastest.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

TILE = 4
POINTS = TILE + 2

CACHE_BYTES = 16 << 20
"""What a group of tiles may take at the points: it should stay in the processor's cache."""

_FROM_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def winograd_kernels(weight: Float[Tensor, "d c 3 3"]) -> Float[Tensor, "36 c d"]:
    """A convolution's weights at the points; made in float64, returned in float32."""
    matrix = torch.tensor(_FROM_KERNEL, dtype=torch.float64, device=weight.device)
    at_points = matrix @ weight.double() @ matrix.T
    return at_points.permute(3, 2, 1, 0).reshape(POINTS**2, weight.shape[1], weight.shape[0]).float().contiguous()


def winograd_conv2d(
    x: Float[Tensor, "b c h w"], kernels: Float[Tensor, "36 c d"], bias: Float[Tensor, "d"] | None
) -> Float[Tensor, "b d h w"]:
    """Convolve with stride 1 and a padding of 1; the result is channels last.

    Rounding errors are about three times those of the plain sum of products, in float32 still below 1e-5 of the
    largest value; in half precision they would be too large.

    Args:
        x: float32, channels last for speed.
        kernels: of `winograd_kernels`.
        bias: added to every output.
    """
    (b, c, height, width), d = x.shape, kernels.shape[2]
    rows, columns = -(-height // TILE), -(-width // TILE)
    beyond = (0, 0, 1, columns * TILE - width + 1, 1, rows * TILE - height + 1)
    padded = torch.nn.functional.pad(x.permute(0, 2, 3, 1), beyond)
    out = x.new_empty(b, rows * TILE, columns * TILE, d)
    row_bytes = POINTS**2 * columns * c * x.element_size()
    images_at_once = min(max(CACHE_BYTES // (row_bytes * rows), 1), b)
    rows_at_once = min(max(CACHE_BYTES // row_bytes, 1), rows)
    work = _Workspace(x, images_at_once * rows_at_once, columns, padded.shape[2], c, d)
    for i in range(0, b, images_at_once):
        for r in range(0, rows, rows_at_once):
            to = out[i : i + images_at_once, r * TILE : (r + rows_at_once) * TILE]
            work.convolve(padded[i : i + images_at_once, r * TILE :], kernels, to)
            if bias is not None:
                to.add_(bias)
    return out[:, :height, :width].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


class _Workspace:
    """Memory for a group of tiles, used again for each of them: fresh memory would cost more than the arithmetic."""

    def __init__(self, like: Tensor, tile_rows: int, columns: int, padded_width: int, c: int, d: int) -> None:
        # what goes to the points takes two tensors more on the way, what comes back four
        self.columns = columns
        self.along_rows = like.new_empty((POINTS + 2) * tile_rows * padded_width * c)
        self.at_points = like.new_empty((POINTS + 2) * POINTS * tile_rows * columns * c)
        self.products = like.new_empty(POINTS**2 * tile_rows * columns * d)
        self.back_along_columns = like.new_empty((TILE + 4) * POINTS * tile_rows * columns * d)

    def convolve(self, x: Tensor, kernels: Tensor, to: Tensor) -> None:
        """Convolve the first rows of `x` `[b, h, w, c]` (two more on each side than outputs) into `to`."""
        (b, height, width, d), c, columns = to.shape, x.shape[3], self.columns
        rows = height // TILE
        by_row = _shaped(self.along_rows, POINTS + 2, b, rows, x.shape[2], c)
        _to_points([x[:, j : j + height - TILE + 1 : TILE] for j in range(POINTS)], by_row)
        at_points = _shaped(self.at_points, POINTS + 2, POINTS, b, rows, columns, c)
        _to_points([by_row[:POINTS, :, :, j : j + width - TILE + 1 : TILE] for j in range(POINTS)], at_points)
        tiles = b * rows * columns
        products = _shaped(self.products, POINTS**2, tiles, d)
        torch.bmm(at_points[:POINTS].reshape(POINTS**2, tiles, c), kernels, out=products)
        by_column = _shaped(self.back_along_columns, TILE + 4, POINTS, b, rows, columns, d)
        _from_points(products.view(POINTS, POINTS, b, rows, columns, d), by_column, by_column[TILE:])
        outputs = to.view(b, rows, TILE, columns, TILE, d).permute(2, 4, 0, 1, 3, 5)
        between = _shaped(self.products, 4, TILE, b, rows, columns, d)  # the products are done with
        _from_points([by_column[:TILE, j] for j in range(POINTS)], outputs, between)


def _shaped(memory: Tensor, *shape: int) -> Tensor:
    return memory[: torch.Size(shape).numel()].view(shape)


def _mix(to: Tensor, a: Tensor, b: Tensor, factor: float) -> None:
    torch.add(a, b, alpha=factor, out=to)


def _to_points(x: Sequence[Tensor], to: Tensor) -> None:
    """One axis of the inputs' transform, six tensors to the first six of `to`; the other two are scratch."""
    even, odd = to[POINTS], to[POINTS + 1]
    _mix(to[0], x[4], x[2], -5)
    to[0].add_(x[0], alpha=4)
    _mix(even, x[4], x[2], -4)
    _mix(odd, x[3], x[1], -4)
    _mix(to[1], even, odd, 1)
    _mix(to[2], even, odd, -1)
    _mix(even, x[4], x[2], -1)
    _mix(odd, x[3], x[1], -1)
    _mix(to[3], even, odd, 2)
    _mix(to[4], even, odd, -2)
    _mix(to[5], x[5], x[3], -5)
    to[5].add_(x[1], alpha=4)


def _from_points(x: Sequence[Tensor] | Tensor, to: Tensor, scratch: Tensor) -> None:
    """One axis of the outputs' transform, six tensors to four."""
    sum_1, difference_1, sum_2, difference_2 = scratch[:4]
    _mix(sum_1, x[1], x[2], 1)
    _mix(difference_1, x[1], x[2], -1)
    _mix(sum_2, x[3], x[4], 1)
    _mix(difference_2, x[3], x[4], -1)
    _mix(to[0], x[0], sum_1, 1)
    to[0].add_(sum_2)
    _mix(to[1], difference_1, difference_2, 2)
    _mix(to[2], sum_1, sum_2, 4)
    _mix(to[3], difference_1, difference_2, 8)
    to[3].add_(x[5])
