"""Queries that become boxes: which cells are queries, and the layers that refine them.

Zhao et al. 2023 (arXiv:2304.08069, section 4.3), after Deformable DETR (Zhu et al. 2020, arXiv:2010.04159).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.reference_boxes import ReferenceBoxes
from halfpixel.nn.transformer import DeformableAttention, FeedForward, MultiHeadAttention, MultiLayerPerceptron

FIRST_SCORE = 0.01
"""What fresh layers say of every class: most queries are nothing."""

FIRST_DELTA = 1e-3
"""Spread of fresh weights for refinements: at first a box is what it was."""


class QueryOutputs(NamedTuple):
    """What a layer says of each query."""

    logits: Float[Tensor, "b q classes"]
    boxes: Float[Tensor, "b q 4"]
    """(centre x, centre y, width, height) in shares of the padded image, in float32."""
    hidden: Float[Tensor, "b q width"]


class Memory(NamedTuple):
    """The maps of all levels, each flattened row by row, one after the other."""

    cells: Float[Tensor, "b s width"]
    shapes: Sequence[tuple[int, int]]
    """Height and width of each level."""
    input_hw: tuple[int, int]
    """The padded image, in pixels."""


def class_layer(width: int, classes: int) -> nn.Linear:
    """A fresh layer that says logits."""
    layer = nn.Linear(width, classes)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.constant_(layer.bias, math.log(FIRST_SCORE / (1 - FIRST_SCORE)))
    return layer


def delta_layers(width: int) -> MultiLayerPerceptron:
    """Fresh layers that say refinements."""
    layers = MultiLayerPerceptron(width, width, 4, 3)
    nn.init.normal_(layers.output.weight, std=FIRST_DELTA)
    nn.init.zeros_(layers.output.bias)
    return layers


class QuerySelection(nn.Module):
    """The cells that look most like objects become queries, so that their number is free.

    Args:
        width: of the maps, before and after.
        levels: how many maps.
        classes: each cell has a score for each.
        references: how boxes are told.
    """

    def __init__(self, width: int, levels: int, classes: int, references: ReferenceBoxes) -> None:
        super().__init__()
        self.references = references
        self.inputs = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(levels))
        self.output, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.logits = class_layer(width, classes)
        self.deltas = delta_layers(width)

    def remember(self, maps: Sequence[Float[Tensor, "b width _ _"]], input_hw: tuple[int, int]) -> Memory:
        """What queries are chosen from, and look at."""
        cells = [layer(x).flatten(2).transpose(1, 2) for layer, x in zip(self.inputs, maps, strict=True)]
        return Memory(torch.cat(cells, 1), [(x.shape[2], x.shape[3]) for x in maps], input_hw)

    def forward(self, memory: Memory, count: int) -> QueryOutputs:
        """The `count` best cells, or all where there are no more; only their boxes are computed."""
        exact = torch.promote_types(memory.cells.dtype, torch.float32)
        anchors, usable = self.references.anchors(memory.shapes, memory.cells.new_zeros((), dtype=exact))
        hidden = self.norm(self.output(memory.cells * usable))
        logits = self.logits(hidden).to(exact)
        best = logits.amax(2).topk(torch.sym_min(count, logits.shape[1]), 1).indices[:, :, None]
        hidden, logits = (one.gather(1, best.expand(-1, -1, one.shape[2])) for one in (hidden, logits))
        boxes = self.references.refine(anchors[best[:, :, 0]], self.deltas(hidden).to(exact))
        return QueryOutputs(logits, torch.where(usable[best[:, :, 0]], boxes, 1.0), hidden)


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the maps around their boxes, and are then looked at alone."""

    def __init__(self, width: int, heads: int, levels: int, points: int, inner: int) -> None:
        super().__init__()
        self.among = MultiHeadAttention(width, heads)
        self.around = DeformableAttention(width, heads, levels, points)
        self.feed = FeedForward(width, inner)
        self.norm_among, self.norm_around, self.norm_feed = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        queries: Float[Tensor, "b q width"],
        positions: Float[Tensor, "b q width"],
        boxes: Float[Tensor, "b q 4"],
        memory: Memory,
    ) -> Float[Tensor, "b q width"]:
        """Apply all three."""
        placed = queries + positions
        queries = self.norm_among(queries + self.among(placed, placed, queries))
        seen = self.around(queries + positions, boxes[:, :, None], memory.cells, memory.shapes)
        queries = self.norm_around(queries + seen)
        out: Tensor = self.norm_feed(queries + self.feed(queries))
        return out


class BoxDecoder(nn.Module):
    """Layers that each refine the boxes of the one before.

    Args:
        width: of queries and maps.
        heads: of both attentions.
        levels: how many maps.
        inner: width of the second half of a layer.
        depth: layers.
        classes: each query has a score for each.
        references: how boxes are told.
        points: places that a query looks at, on each level, for each head.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        levels: int,
        inner: int,
        depth: int,
        classes: int,
        references: ReferenceBoxes,
        points: int = 4,
    ) -> None:
        super().__init__()
        self.references = references
        self.layers = nn.ModuleList(DecoderLayer(width, heads, levels, points, inner) for _ in range(depth))
        self.positions = MultiLayerPerceptron(references.numbers, 2 * width, width, 2)
        self.logits = nn.ModuleList(class_layer(width, classes) for _ in range(depth))
        self.deltas = nn.ModuleList(delta_layers(width) for _ in range(depth))

    def forward(self, selected: QueryOutputs, memory: Memory) -> list[QueryOutputs]:
        """What each layer says. No gradient flows back to the selection, nor through the boxes of a layer before."""
        queries, boxes, said = selected.hidden.detach(), selected.boxes, list[QueryOutputs]()
        for layer, logits, deltas in zip(self.layers, self.logits, self.deltas, strict=True):
            boxes = boxes.detach().clamp(0, 1)  # what is seen of an object is in the image
            positions = self.positions(self.references.positions(boxes, memory.input_hw).to(queries.dtype))
            queries = layer(queries, positions, boxes, memory)
            boxes = self.references.refine(boxes, deltas(queries).to(boxes.dtype))
            said.append(QueryOutputs(logits(queries).to(boxes.dtype), boxes, queries))
        return said
