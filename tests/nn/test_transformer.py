"""Parts of transformers against torch's own, loops, and arithmetic by hand."""

import math

import pytest
import torch
from torch import nn

from halfpixel.nn.transformer import (
    DeformableAttention,
    FeedForward,
    MultiHeadAttention,
    MultiLayerPerceptron,
    sine_positions,
)
from halfpixel.ops.deformable_attention import deformable_attention


@pytest.mark.parametrize("masked", [False, True])
def test_attention_equals_torchs(masked: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(12, 3).double(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        for layer in (ours.query, ours.key, ours.value, ours.out):
            nn.init.normal_(layer.bias)
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, keys, values = (torch.randn(2, n, 12, dtype=torch.float64) for n in (4, 5, 5))
    allowed = torch.rand(2, 3, 4, 5) > 0.5 if masked else None
    if allowed is not None:
        allowed[..., 0] = True
    expected, _ = theirs(queries, keys, values, attn_mask=None if allowed is None else ~allowed.flatten(0, 1))
    torch.testing.assert_close(ours(queries, keys, values, allowed), expected)


def deformable(levels: int) -> DeformableAttention:
    torch.manual_seed(0)
    module = DeformableAttention(8, 2, levels, 3).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def test_offsets_from_points_are_cells_of_each_level() -> None:
    module, shapes = deformable(2), [(4, 6), (2, 3)]
    queries, memory = torch.randn(1, 5, 8, dtype=torch.float64), torch.randn(1, 30, 8, dtype=torch.float64)
    references = torch.rand(1, 5, 2, 2, dtype=torch.float64)
    offsets = module.offsets(queries).reshape(1, 5, 2, 2, 3, 2)
    locations = torch.zeros_like(offsets)
    for level, (height, width) in enumerate(shapes):
        for axis, side in enumerate((width, height)):
            reference = references[:, :, None, level, None, axis]
            locations[:, :, :, level, :, axis] = reference + offsets[:, :, :, level, :, axis] / side
    weights = module.weights(queries).reshape(1, 5, 2, 6).softmax(3).reshape(1, 5, 2, 2, 3)
    seen = deformable_attention(module.value(memory).reshape(1, 30, 2, 4), shapes, locations, weights)
    torch.testing.assert_close(module(queries, references, memory, shapes), module.out(seen))


def test_offsets_from_boxes_are_shares_of_their_halves() -> None:
    module, shapes = deformable(1), [(4, 6)]
    queries, memory = torch.randn(1, 5, 8, dtype=torch.float64), torch.randn(1, 24, 8, dtype=torch.float64)
    references = torch.rand(1, 5, 1, 4, dtype=torch.float64)
    offsets = module.offsets(queries).reshape(1, 5, 2, 1, 3, 2) / 3
    centres, halves = references[:, :, None, :, None, :2], references[:, :, None, :, None, 2:] / 2
    weights = module.weights(queries).reshape(1, 5, 2, 3).softmax(3).reshape(1, 5, 2, 1, 3)
    values = module.value(memory).reshape(1, 24, 2, 4)
    seen = deformable_attention(values, shapes, centres + offsets * halves, weights)
    torch.testing.assert_close(module(queries, references, memory, shapes), module.out(seen))


def test_at_first_each_head_looks_in_its_own_direction() -> None:
    module = DeformableAttention(8, 4, 2, 3)
    offsets = module.offsets(torch.randn(1, 1, 8)).reshape(4, 2, 3, 2)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(offsets[:, 1, 2], 3 * directions, atol=1e-6, rtol=0)
    torch.testing.assert_close(offsets[:, 0, 0], directions, atol=1e-6, rtol=0)
    assert module.weights.weight.abs().max() == 0


def test_layers_one_after_the_other() -> None:
    x = torch.randn(2, 3, 4)
    forward = FeedForward(4, 9, nn.functional.gelu)
    torch.testing.assert_close(forward(x), nn.Sequential(forward.expand, nn.GELU(), forward.project)(x))
    deep = MultiLayerPerceptron(4, 6, 5, 3)
    assert [tuple(one.weight.shape) for one in (*deep.layers, deep.output)] == [(6, 4), (6, 6), (5, 6)]
    expected = nn.Sequential(deep.layers[0], nn.ReLU(), deep.layers[1], nn.ReLU(), deep.output)(x)
    torch.testing.assert_close(deep(x), expected)
    assert MultiLayerPerceptron(4, 6, 5, 1)(x).shape == (2, 3, 5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_positions_by_hand(interleaved: bool) -> None:
    y, x, width = torch.tensor([0.5, 2.0], dtype=torch.float64), torch.arange(3, dtype=torch.float64), 8
    found = sine_positions(y, x, width, interleaved)
    assert found.shape == (6, 8)
    for row in range(2):
        for column in range(3):
            expected = []
            for place in (float(y[row]), float(x[column])):
                angles = [place, place / 10_000**0.5]
                pairs = [(math.sin(one), math.cos(one)) for one in angles]
                expected += [*pairs[0], *pairs[1]] if interleaved else [one[k] for k in (0, 1) for one in pairs]
            assert found[3 * row + column].tolist() == pytest.approx(expected)
