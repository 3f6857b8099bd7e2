import numpy as np
import pytest
import torch

from halfpixel.errors import ImageError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.viz.cutouts import cut_out

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def instances(masks: CropMasks) -> Instances:
    n = len(masks)
    return Instances(masks.size_hw, masks.boxes_xyxy(), torch.ones(n), torch.zeros(n, dtype=torch.int64), ("a",), masks)


def test_cut_outs_put_back_give_the_masks_and_the_colours() -> None:
    y, x = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    dense = torch.stack([(x - 20) ** 2 + (y - 15) ** 2 < 90, (x > 44) & (y > 30), (x + y) % 7 == 0])
    objects = instances(CropMasks.from_dense(dense))
    boxes = objects.boxes_xyxy.long().tolist()
    for piece, mask, (x1, y1, x2, y2) in zip(cut_out(IMAGE, objects), dense.numpy(), boxes, strict=True):
        assert piece.shape == (y2 - y1, x2 - x1, 4)
        assert piece.dtype == np.uint8
        assert np.array_equal(piece[..., 3], mask[y1:y2, x1:x2] * 255)
        assert np.array_equal(piece[..., :3], IMAGE[y1:y2, x1:x2])


def test_crops_with_margins_are_trimmed() -> None:
    crop = torch.zeros(12, 15, dtype=torch.bool)
    crop[3:7, 4:9] = True
    (piece,) = cut_out(IMAGE, instances(CropMasks((crop,), torch.tensor([[10, 20]]), (40, 50))))
    assert np.array_equal(piece[..., :3], IMAGE[23:27, 14:19])
    assert (piece[..., 3] == 255).all()


def test_an_object_without_pixels_is_one_transparent_pixel() -> None:
    dense = torch.zeros(2, 40, 50, dtype=torch.bool)
    dense[1, 5:9, 5:9] = True
    empty, other = cut_out(IMAGE, instances(CropMasks.from_dense(dense)))
    assert empty.tolist() == [[[0, 0, 0, 0]]]
    assert other.shape == (4, 4, 4)


def test_boxes_take_the_pixels_whose_centres_they_hold() -> None:
    boxes = torch.tensor([[10.4, 5.6, 20.5, 9.51], [-5.0, 30.0, 4.0, 90.0], [60.0, 2.0, 70.0, 4.0]])
    objects = Instances((40, 50), boxes, torch.ones(3), torch.zeros(3, dtype=torch.int64), ("a",))
    inside, cut, outside = cut_out(IMAGE, objects)
    assert np.array_equal(inside[..., :3], IMAGE[6:10, 10:20])
    assert np.array_equal(cut[..., :3], IMAGE[30:40, 0:4])
    assert (cut[..., 3] == 255).all()
    assert outside.shape == (1, 1, 4)
    assert outside.max() == 0


def test_a_wrong_image_is_refused_at_once() -> None:
    objects = instances(CropMasks.empty((40, 50)))
    with pytest.raises(ImageError, match="40, 50"):
        cut_out(IMAGE[:30], objects)
    with pytest.raises(ImageError, match="uint8"):
        cut_out(IMAGE[..., 0], objects)
    assert list(cut_out(IMAGE, objects)) == []
