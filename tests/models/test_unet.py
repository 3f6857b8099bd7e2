"""What a map of classes becomes, and what a U-Net is taught."""

import pytest
import torch
from networks import annotated, batch_of
from torch import Tensor

from halfpixel.measure.object_table import measure_objects
from halfpixel.models.unet import UNKNOWN, Settings, UNet, unet_lite, unet_lite_boundary
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

NAMES = ("disc", "square")


def network(**settings: object) -> UNet:
    return unet_lite(NAMES, Settings(**settings)).eval()  # type: ignore[arg-type]


def decode(model: UNet, kinds: Tensor, sure: float = 0.8, threshold: float = 0.0, limit: int = 100) -> Instances:
    """Objects of a map that gives each pixel's kind the probability `sure`."""
    k = 1 + len(NAMES) + model.settings.boundary
    wanted = torch.nn.functional.one_hot(kinds, k).permute(2, 0, 1).float()
    probabilities = wanted * sure + (1 - wanted) * (1 - sure) / (k - 1)
    size = (kinds.shape[0], kinds.shape[1])
    (found,) = model.decode({"probabilities": probabilities[None]}, [Resized(size, size)], Limits.of(threshold, limit))
    return found


def two_touching_squares() -> tuple[Tensor, Tensor]:
    """A map of kinds in which two squares of one class share a side, and their masks."""
    kinds = torch.zeros(20, 30, dtype=torch.int64)
    kinds[5:15, 5:15] = kinds[5:15, 15:25] = 1
    left, right = torch.zeros(20, 30, dtype=torch.bool), torch.zeros(20, 30, dtype=torch.bool)
    left[5:15, 5:15], right[5:15, 15:25] = True, True
    return kinds, torch.stack([left, right])


def test_touching_objects_of_one_class_melt() -> None:
    kinds, masks = two_touching_squares()
    found = decode(network(), kinds)
    assert len(found) == 1
    assert found.masks is not None
    assert torch.equal(found.masks.dense()[0], masks.any(0))
    assert found.boxes_xyxy.tolist() == [[5, 5, 25, 15]]


def test_touching_objects_of_two_classes_do_not() -> None:
    kinds, masks = two_touching_squares()
    kinds[masks[1]] = 2
    found = decode(network(), kinds)
    assert found.counts() == {"disc": 1, "square": 1}


def test_corners_do_not_join() -> None:
    kinds = torch.zeros(20, 20, dtype=torch.int64)
    kinds[2:8, 2:8] = kinds[8:14, 8:14] = 1
    assert len(decode(network(), kinds)) == 2


def test_outlines_tell_touching_objects_apart_and_belong_to_them() -> None:
    kinds, masks = two_touching_squares()
    with_outlines = kinds.clone()
    for mask in masks:
        inside = mask.clone()
        inside[:-1] &= mask[1:]
        inside[1:] &= mask[:-1]
        inside[:, :-1] &= mask[:, 1:]
        inside[:, 1:] &= mask[:, :-1]
        with_outlines[mask & ~inside] = 3
    found = decode(network(boundary=True), with_outlines)
    assert len(found) == 2
    assert found.masks is not None
    dense = found.masks.dense()
    assert torch.equal(dense.any(0), masks.any(0))
    for mask in masks:
        overlaps = (dense & mask).sum((1, 2)) / (dense | mask).sum((1, 2))
        assert overlaps.max() > 0.85  # the outline between them is shared out
    assert found.scores.tolist() == pytest.approx([0.8 + 0.2 / 3] * 2)  # of its class or of an outline


def test_an_object_that_is_all_outline_stays() -> None:
    kinds = torch.zeros(20, 20, dtype=torch.int64)
    kinds[4:8, 4:8] = 3
    assert len(decode(network(boundary=True), kinds)) == 1


def test_the_score_is_the_mean_probability() -> None:
    kinds, _ = two_touching_squares()
    assert decode(network(), kinds, sure=0.7).scores.tolist() == pytest.approx([0.7])
    assert len(decode(network(), kinds, sure=0.7, threshold=0.71)) == 0


def test_specks_are_noise() -> None:
    kinds = torch.zeros(20, 20, dtype=torch.int64)
    kinds[2:4, 2:7] = 1  # 10 pixels
    kinds[10:13, 10:13] = 1  # 9
    found = decode(network(), kinds)
    assert found.boxes_xyxy.tolist() == [[2, 2, 7, 4]]
    assert len(decode(network(smallest_px=9), kinds)) == 2


def test_the_limit_keeps_the_best_and_says_so() -> None:
    kinds, masks = two_touching_squares()
    kinds[:, 15] = 0
    model = network()
    probabilities = torch.nn.functional.one_hot(kinds, 3).permute(2, 0, 1).float()
    probabilities[:, masks[0]] = torch.tensor([0.4, 0.6, 0.0])[:, None]
    outputs, size = {"probabilities": probabilities[None]}, Resized((20, 30), (20, 30))
    (found,) = model.decode(outputs, [size], Limits.of(0.0, 1))
    assert found.saturated
    assert found.scores.tolist() == [1.0]
    assert found.boxes_xyxy[0, 0] == 16
    (found,) = model.decode(outputs, [size], Limits.of(0.0, 2))
    assert not found.saturated
    assert len(found) == 2
    assert found.candidates == {"components": 2, "detections": 2}


def test_padding_is_cut_off_and_the_rest_resized() -> None:
    model = network()
    probabilities = torch.zeros(1, 3, 32, 32)
    probabilities[:, 0] = 1
    probabilities[:, :, 4:12, 4:12] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    probabilities[:, :, 26:, 26:] = torch.tensor([0.0, 0.0, 1.0])[:, None, None]  # in the padding
    (found,) = model.decode({"probabilities": probabilities}, [Resized((48, 24), (24, 24))], Limits.of(0.0, 9))
    assert found.size_hw == (48, 24)
    assert found.boxes_xyxy.tolist() == [[4, 8, 12, 24]]


@pytest.mark.parametrize("boundary", [False, True])
def test_soft_masks_give_the_masks_at_one_half_and_others_elsewhere(boundary: bool) -> None:
    """Blurred discs, two of them touching: every object's map is its own, and thresholds nest."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    discs = [((y - cy) ** 2 + (x - cx) ** 2).sqrt() - r for cy, cx, r in ((20, 20, 9), (20, 40, 9), (45, 70, 8))]
    own = torch.stack([torch.sigmoid(-d) for d in discs]).amax(0)
    edge = torch.stack([torch.exp(-(d.clamp(max=0) ** 2)) * (d < 1) for d in discs]).amax(0)
    maps = [1.01 - own, own * (1 - 0.8 * edge), 0.01 + 0 * own, *([own * 0.8 * edge] if boundary else [])]
    probabilities = torch.stack(maps) / torch.stack(maps).sum(0)
    model = network(boundary=boundary)
    (found,) = model.decode({"probabilities": probabilities[None]}, [Resized((60, 90), (60, 90))], Limits.of(0.0, 9))
    assert found.masks is not None
    assert len(found) == 3
    at_half = found.masks.at_threshold(0.5)
    assert torch.equal(at_half.dense(), found.masks.dense())
    low, high = found.masks.at_threshold(0.1), found.masks.at_threshold(0.9)
    assert (low.areas_px() > at_half.areas_px()).all()
    assert (high.areas_px() < at_half.areas_px()).all()
    for k in range(3):  # no pixel of an object is another's, however doubtful
        others = found.masks.dense()[[j for j in range(3) if j != k]].any(0)
        assert not (low.dense()[k] & others).any()
        assert (low.dense()[k] & at_half.dense()[k]).sum() == at_half.areas_px()[k]
    measured = measure_objects(found)
    assert (measured.columns["area_low_px"] < measured.columns["area_px"]).all()
    assert (measured.columns["area_px"] < measured.columns["area_high_px"]).all()


def truth(model: UNet, target: Targets, padded_hw: tuple[int, int]) -> Tensor:
    return model._truth(target, padded_hw)


def test_what_is_taught() -> None:
    _, masks = two_touching_squares()
    target = Targets.from_instances(annotated(masks, torch.tensor([0, 1])))
    taught = truth(network(), target, (32, 32))
    expected = torch.full((32, 32), UNKNOWN)
    expected[:20, :30] = 0
    expected[:20, :30][masks[0]] = 1
    expected[:20, :30][masks[1]] = 2
    assert torch.equal(taught, expected)


def test_outlines_are_taught_inside_of_objects() -> None:
    _, masks = two_touching_squares()
    target = Targets.from_instances(annotated(masks, torch.tensor([0, 0])))
    taught = truth(unet_lite_boundary(NAMES), target, (20, 30))
    expected = torch.zeros(20, 30, dtype=torch.int64)
    for mask, x in zip(masks, (5, 15), strict=True):
        expected[mask] = 3
        expected[6:14, x + 1 : x + 9] = 1
    assert torch.equal(taught, expected)


def test_the_edge_of_the_image_is_no_outline() -> None:
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, :4] = True
    target = Targets.from_instances(annotated(mask, torch.tensor([0])))
    taught = truth(unet_lite_boundary(NAMES), target, (8, 8))
    assert (taught[:3, :3] == 1).all()
    assert (taught[3, :4] == 3).all()
    assert (taught[:4, 3] == 3).all()


def test_crowd_regions_are_not_taught_but_objects_in_them_are() -> None:
    _, masks = two_touching_squares()
    objects = annotated(masks[:1], torch.tensor([0]))
    target = Targets.from_instances(objects, torch.tensor([[10.0, 0.0, 20.0, 20.0]]))
    taught = truth(network(), target, (20, 30))
    assert (taught[5:15, 5:15] == 1).all()
    assert (taught[:5, 10:20] == UNKNOWN).all()
    assert (taught[:, 20:] == 0).all()


@pytest.mark.parametrize("boundary", [False, True])
def test_losses_against_a_loop(boundary: bool) -> None:
    torch.manual_seed(0)
    _, masks = two_touching_squares()
    model = unet_lite(NAMES, Settings(boundary=boundary)).eval()
    targets = [
        Targets.from_instances(annotated(masks, torch.tensor([0, 1]))),
        Targets.from_instances(annotated(masks[:0], torch.zeros(0, dtype=torch.int64))),
    ]
    images = batch_of(torch.randn(3, 20, 30), torch.randn(3, 20, 30))
    with torch.no_grad():
        losses = model.losses(images, targets)
        probabilities = model._pixel_logits(images.tensor).softmax(1)
    entropy, pixels, dice = 0.0, 0, []
    for said, target in zip(probabilities, targets, strict=True):
        taught = truth(model, target, (32, 32))
        for y in range(20):
            for x in range(30):
                entropy -= float(said[taught[y, x], y, x].log())
                pixels += 1
        for k in range(1, len(said)):
            a, b = said[k, :20, :30].double(), (taught[:20, :30] == k).double()
            dice.append(1 - (2 * float((a * b).sum()) + 1) / (float(a.sum() + b.sum()) + 1))
    assert float(losses["cross_entropy"]) == pytest.approx(entropy / pixels, rel=1e-4)
    assert float(losses["dice"]) == pytest.approx(sum(dice) / len(dice), rel=1e-4)


def test_other_classes_keep_the_rest() -> None:
    model = network()
    other = model.with_classes(("seed",))
    assert other.class_names == ("seed",)
    assert other.logits.out_channels == 2
    same = {
        name: torch.equal(a, model.state_dict()[name]) for name, a in other.state_dict().items() if "logits" not in name
    }
    assert all(same.values())


@pytest.mark.parametrize(("limit", "saturated"), [(2000, False), (1500, False), (1000, True)])
def test_of_1500_objects_none_is_lost_silently(limit: int, saturated: bool) -> None:
    kinds = torch.zeros(30 * 12, 50 * 12, dtype=torch.int64)
    for k in range(1500):
        top, left = 12 * (k // 50), 12 * (k % 50)
        kinds[top + 1 : top + 10, left + 1 : left + 11] = 1 + k % 2
    found = decode(network(), kinds, limit=limit)
    assert len(found) == min(limit, 1500)
    assert found.saturated == saturated
    assert found.candidates == {"components": 1500, "detections": 1500}
    assert found.masks is not None
    assert found.masks.areas_px().unique().tolist() == [90]
