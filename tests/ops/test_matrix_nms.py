import pytest
import torch
from torch import Tensor

from halfpixel.ops.interpolate import sample_boxes
from halfpixel.ops.matrix_nms import matrix_nms

SIDE, SIGMA = 96, 2.0


def ellipses(n: int = 60, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Masks on a canvas, their tight boxes, scores and labels; many overlap."""
    generator = torch.Generator().manual_seed(seed)
    centres = (torch.rand(n, 2, generator=generator) * 0.7 + 0.15) * SIDE
    radii = torch.rand(n, 2, generator=generator) * 10 + 4
    y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
    dx, dy = x - centres[:, 0, None, None], y - centres[:, 1, None, None]
    masks = (dx / radii[:, 0, None, None]) ** 2 + (dy / radii[:, 1, None, None]) ** 2 < 1
    corners = []
    for mask in masks:
        rows, columns = torch.nonzero(mask.any(1)).ravel(), torch.nonzero(mask.any(0)).ravel()
        corners.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return masks, torch.tensor(corners).float(), torch.rand(n, generator=generator), torch.arange(n) % 2


def dense(masks: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
    """Equations 4 and 5 of the paper, pair by pair on whole canvases."""
    order = scores.argsort(descending=True).tolist()
    shared = dict.fromkeys(order, 0.0)
    decayed = scores.clone()
    for place, worse in enumerate(order):
        decay = 1.0
        for better in order[:place]:
            if labels[better] != labels[worse]:
                continue
            iou = float((masks[better] & masks[worse]).sum() / (masks[better] | masks[worse]).sum())
            shared[worse] = max(shared[worse], iou)
            decay = min(decay, float(torch.exp(torch.tensor(-SIGMA * (iou**2 - shared[better] ** 2)))))
        decayed[worse] *= decay
    return decayed


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_decays_as_on_whole_canvases(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfpixel.ops.matrix_nms.ROWS_AT_ONCE", chunk)
    monkeypatch.setattr("halfpixel.ops.matrix_nms.PAIRS_AT_ONCE", chunk)
    masks, boxes_xyxy, scores, labels = ellipses()
    grids = sample_boxes(masks.float(), boxes_xyxy, (56, 56)) > 0.5
    expected = dense(masks, scores, labels)
    assert (expected < 0.8 * scores).sum() > 10
    found = matrix_nms(grids, boxes_xyxy, scores, labels, SIGMA)
    assert (found - expected).abs().max() < 0.03  # the overlap is looked at in points
    assert (found - expected).abs().mean() < 0.003


def test_a_copy_loses_and_a_neighbour_does_not() -> None:
    grids, boxes_xyxy = (
        torch.ones(3, 28, 28, dtype=torch.bool),
        torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [9, 0, 18, 9]]),
    )
    scores = torch.tensor([0.8, 0.9, 0.7])
    found = matrix_nms(grids, boxes_xyxy, scores, torch.zeros(3).long(), SIGMA)
    torch.testing.assert_close(found, torch.tensor([0.8 * torch.e**-2, 0.9, 0.7]))
    of_others = matrix_nms(grids, boxes_xyxy, scores, torch.arange(3), SIGMA)
    assert torch.equal(of_others, scores)


def test_no_masks() -> None:
    nothing = matrix_nms(torch.zeros(0, 28, 28).bool(), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())
    assert nothing.shape == (0,)
