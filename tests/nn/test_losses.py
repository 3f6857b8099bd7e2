"""Quality focal loss against torchvision's focal loss, where the quality is nothing or all, and by hand between."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from halfpixel.nn.losses import quality_focal_losses


def test_is_the_focal_loss_where_quality_is_nothing_or_all() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, wanted = torch.randn(30, 4, generator=generator), torch.randint(0, 2, (30, 4), generator=generator).float()
    expected = sigmoid_focal_loss(logits, wanted, alpha=-1, gamma=2)
    torch.testing.assert_close(quality_focal_losses(logits, wanted), expected)


def test_is_least_where_the_score_is_the_quality() -> None:
    logits, quality = torch.tensor([0.3, -1.0]), torch.tensor([0.3]).sigmoid().repeat(2)
    right, wrong = quality_focal_losses(logits, quality).tolist()
    score, wanted = 1 / (1 + math.e), float(quality[0])
    assert right == 0
    assert wrong == pytest.approx(
        -(wanted * math.log(score) + (1 - wanted) * math.log(1 - score)) * (wanted - score) ** 2
    )
