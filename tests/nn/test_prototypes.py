import torch
from torch import nn

from halfpixel.nn.anchors import anchor_boxes
from halfpixel.nn.long_pyramid import LongPyramid
from halfpixel.nn.prototypes import CoefficientHead, Protonet


def test_what_is_said_of_anchors_is_in_their_order() -> None:
    """Level, row, column, shape: a head that says each cell's features gives the anchors their cells."""
    head = CoefficientHead(2, shapes=3, prototypes=1, classes=1, depth=0, kernel=1)
    for layer, outputs in ((head.logits, 2), (head.deltas, 4), (head.coefficients, 1)):
        nn.init.zeros_(layer.weight)
        shape_of = torch.arange(3).repeat_interleave(outputs)
        layer.bias.data.copy_(shape_of)  # type: ignore[union-attr]
    head.deltas.weight.data[:, :, 0, 0] = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]).repeat(3, 1)
    head.deltas.bias.data.reshape(3, 4)[:, :2] = 0  # type: ignore[union-attr]
    sizes = [(3, 5), (2, 3)]
    pyramid = [
        torch.stack(torch.meshgrid(torch.arange(w) + 0.5, torch.arange(h) + 0.5, indexing="xy")) for h, w in sizes
    ]
    with torch.no_grad():
        said = head([one[None] for one in pyramid])
    anchors = anchor_boxes(sizes, (24, 40), (8, 8), (0.5, 1.0, 2.0), (1, 1), "half_pixel", torch.device("cpu"))
    boxes_xyxy = torch.cat(anchors)
    torch.testing.assert_close(said.deltas[0, :, :2], (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2)
    shape = torch.arange(3.0).repeat(15 + 6)
    torch.testing.assert_close(said.deltas[0, :, 2], shape)
    torch.testing.assert_close(said.logits[0], shape[:, None].expand(-1, 2))
    torch.testing.assert_close(said.coefficients[0, :, 0], shape.tanh())


def test_prototypes_are_finer_and_not_negative() -> None:
    torch.manual_seed(0)
    maps = Protonet(4, coarse=(6, 6), fine=5, prototypes=3)(torch.randn(2, 4, 7, 9))
    assert maps.shape == (2, 3, 14, 18)
    assert maps.min() == 0 < maps.max()


def test_two_levels_more() -> None:
    torch.manual_seed(0)
    maps = [torch.randn(1, c, 16 // s, 24 // s) for c, s in ((3, 1), (5, 2), (7, 4))]
    cut, uncut = (LongPyramid((3, 5, 7), 4, activation=one, from_backbone=not one) for one in (True, False))
    uncut.merged = cut.merged
    a, b = cut(maps), uncut(maps)
    assert [tuple(one.shape[2:]) for one in a] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    for k in range(3):
        assert b[k].min() < 0
        torch.testing.assert_close(a[k], b[k].relu())
    torch.testing.assert_close(a[3], cut.coarser[0](a[2]))
    torch.testing.assert_close(b[3], uncut.coarser[0](maps[2]))
    torch.testing.assert_close(b[4], uncut.coarser[1](b[3]))


def test_a_head_swap_keeps_the_rest() -> None:
    head = CoefficientHead(4, shapes=3, prototypes=5, classes=2)
    kept = head.coefficients.weight
    head.set_classes(7)
    assert head.logits.weight.shape == (24, 4, 3, 3)
    assert head.coefficients.weight is kept
