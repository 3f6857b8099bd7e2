"""The mask branch: its maps by hand, and its losses against dense logits."""

import torch
from networks import dense_masks, scene

from halfpixel.nn.mask_branch import AROUND, GRID, MaskBranch, region_mask_losses
from halfpixel.ops import boxes


def test_levels_are_enlarged_and_added() -> None:
    torch.manual_seed(0)
    branch = MaskBranch(5, 6, levels=2, inner=4, maps=3)
    fine, encoded = torch.randn(1, 5, 8, 12), [torch.randn(1, 6, 4, 6), torch.randn(1, 6, 2, 3)]
    assert branch.fine is not None

    def twice(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, size=[2 * side for side in x.shape[2:]], mode="bilinear")

    middle = branch.coarse[0](encoded[0]) + twice(branch.coarse[1](encoded[1]))
    expected = branch.maps(branch.fuse(branch.fine(fine) + twice(middle)))
    torch.testing.assert_close(branch(fine, encoded), expected)
    assert expected.shape == (1, 3, 8, 12)


def test_losses_are_those_of_the_masks_in_and_around_their_boxes() -> None:
    _, target = scene(128)
    stride = 2.0
    dense = dense_masks(target).float()
    coarse = torch.nn.functional.avg_pool2d(dense[None], int(stride))  # a map for each object
    kernels, objects = 20 * torch.eye(len(target)), torch.tensor([2, 0, 3, 1])
    right, right_dice = region_mask_losses(coarse - 0.5, kernels[objects], objects, target, stride)
    wrong, wrong_dice = region_mask_losses(coarse - 0.5, kernels[objects.flip(0)], objects, target, stride)
    assert right < 0.05 * wrong
    assert right_dice < 0.05 * wrong_dice

    regions = boxes.expand(target.boxes_xyxy, AROUND)
    said, counts = [], []
    for k, (x0, y0, x1, y1) in enumerate(regions.tolist()):  # bilinear samples at the middles of the grid's cells
        steps = (torch.arange(GRID) + 0.5) / GRID
        x, y = (2 * (low + steps * (high - low)) / 128 - 1 for low, high in ((x0, x1), (y0, y1)))
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 2)[None]
        one = 20 * (coarse[:, k : k + 1] - 0.5)
        counts.append((grid[0].abs() < 1).all(2))  # of what is beyond the image nothing is known
        said.append(torch.nn.functional.grid_sample(one, grid, padding_mode="border", align_corners=False)[0, 0])
    logits, wanted = torch.stack(said), target.mask_grids(torch.arange(4), regions, GRID)
    seen = torch.stack(counts)
    assert not seen.all()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    means = torch.stack([one[counted].mean() for one, counted in zip(entropy, seen, strict=True)])
    torch.testing.assert_close(right, means.sum(), atol=1e-4, rtol=1e-3)
    p, wanted = logits.sigmoid() * seen, wanted * seen
    dice = 1 - (2 * (p * wanted).sum((1, 2)) + 1) / (p.sum((1, 2)) + wanted.sum((1, 2)) + 1)
    torch.testing.assert_close(right_dice, dice.sum(), atol=1e-4, rtol=1e-3)


def test_no_objects() -> None:
    _, target = scene(64, objects=0)
    none = torch.zeros(0, dtype=torch.int64)
    entropy, dice = region_mask_losses(torch.zeros(1, 3, 16, 16), torch.zeros(0, 3), none, target, 4.0)
    assert entropy == dice == 0
