from dataclasses import replace

import pytest
import torch

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZE_HW = (40, 50)


def some_objects(n: int = 4) -> Instances:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(n, 2, generator=generator) * 20
    dense = torch.rand(n, *SIZE_HW, generator=generator) < 0.3
    return Instances(
        size_hw=SIZE_HW,
        boxes_xyxy=torch.cat([corners, corners + 10], 1),
        scores=torch.tensor([0.9, 0.7, 0.5, 0.1])[:n],
        labels=torch.tensor([0, 2, 0, 2])[:n],
        class_names=("cell", "debris", "nucleus"),
        masks=CropMasks.from_dense(dense),
    )


def test_lengths_must_agree() -> None:
    objects = some_objects()
    with pytest.raises(ValueError, match="4 boxes but 3 masks"):
        replace(objects, masks=objects.masks[torch.arange(3)])
    # the shape checks of the tests notice scores and labels first, users meet our own message
    check = Instances.__post_init__
    broken = some_objects()
    object.__setattr__(broken, "scores", torch.zeros(3))
    with pytest.raises(ValueError, match="4 boxes but 3 scores"):
        check(broken)
    broken = some_objects()
    object.__setattr__(broken, "labels", torch.zeros(5, dtype=torch.int64))
    with pytest.raises(ValueError, match="4 boxes but 5 labels"):
        check(broken)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_must_have_names(label: int) -> None:
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.2"):
        replace(some_objects(), labels=torch.tensor([0, label, 0, 1]))


def test_masks_must_be_on_the_same_canvas() -> None:
    with pytest.raises(ValueError, match="canvas"):
        replace(some_objects(), size_hw=(40, 51))


def test_choosing_by_truth_and_by_number() -> None:
    objects = some_objects()
    for index in (torch.tensor([True, False, True, False]), torch.tensor([0, 2])):
        chosen = objects[index]
        assert len(chosen) == 2
        assert torch.equal(chosen.boxes_xyxy, objects.boxes_xyxy[index])
        assert chosen.scores.tolist() == pytest.approx([0.9, 0.5])
        assert chosen.labels.tolist() == [0, 0]
        assert torch.equal(chosen.masks.dense(), objects.masks.dense()[index])
        assert chosen.class_names == objects.class_names


def test_choosing_without_masks() -> None:
    objects = replace(some_objects(), masks=None)
    assert objects[torch.tensor([1])].masks is None
    assert objects.translate(1, 1, SIZE_HW).masks is None


def test_above_includes_the_threshold_and_remembers_it() -> None:
    objects = some_objects()
    kept = objects.above(objects.scores[2].item())
    assert len(kept) == 3
    assert kept.score_threshold == objects.scores[2].item()
    assert objects.score_threshold is None
    assert len(objects.above(1.0)) == 0


def test_a_lower_threshold_brings_nothing_back_and_does_not_claim_to() -> None:
    kept = some_objects().above(0.5).above(0.2)
    assert len(kept) == 3
    assert kept.score_threshold == 0.5


def test_what_the_limits_cut_is_remembered() -> None:
    objects = replace(some_objects(), saturated=True, candidates={"proposals": 900, "detections": 30})
    for other in (objects.above(0.05), objects[torch.tensor([0])], objects.translate(1, 1, SIZE_HW)):
        assert other.saturated
        assert other.candidates == objects.candidates


def test_a_limit_that_cut_below_the_threshold_cut_nothing_that_counts() -> None:
    objects = replace(some_objects(), saturated=True)
    assert not objects.above(0.5).saturated
    assert objects[:3].above(0.5).saturated


def test_counts_name_every_class_in_order() -> None:
    assert list(some_objects().counts().items()) == [("cell", 2), ("debris", 0), ("nucleus", 2)]
    assert list(some_objects().above(0.6).counts().values()) == [1, 0, 1]
    assert list(some_objects(0).counts().values()) == [0, 0, 0]


def test_translate_moves_boxes_and_masks() -> None:
    objects = some_objects()
    moved = objects.translate(100, -7, (300, 200))
    assert moved.size_hw == (300, 200)
    torch.testing.assert_close(moved.boxes_xyxy - objects.boxes_xyxy, torch.tensor([[100.0, -7, 100, -7]] * 4))
    assert torch.equal(moved.masks.dense()[:, :33, 100:150], objects.masks.dense()[:, 7:])
    assert moved.masks.areas_px().sum() == objects.masks.dense()[:, 7:].sum()


def test_no_objects() -> None:
    none = some_objects(0)
    assert len(none) == 0
    assert len(none.above(0.5)) == 0
    assert len(none[torch.zeros(0, dtype=torch.bool)]) == 0
    assert len(none.translate(3, 3, (10, 10))) == 0
    nameless = Instances(SIZE_HW, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), ())
    assert nameless.counts() == {}


def test_slices_numbers_and_one_by_one() -> None:
    objects = some_objects()
    assert objects[1:3].scores.tolist() == objects.scores[1:3].tolist()
    assert objects[-1].scores.tolist() == objects.scores[-1:].tolist()
    assert [float(one.scores[0]) for one in objects] == objects.scores.tolist()
    assert objects.masks is not None
    assert torch.equal(objects[2].masks.dense()[0], objects.masks.dense()[2])  # type: ignore[union-attr]
    assert objects[[0, 2]].scores.tolist() == objects.scores[[0, 2]].tolist()
    assert len(objects[[]]) == 0
    with pytest.raises(IndexError):
        objects[4]


def test_how_unlike_an_image_is_where_its_objects_are() -> None:
    parts = [
        replace(some_objects(n), novelty=novelty) for n, novelty in ((4, 0.5), (1, 3.0), (0, 9.0), (0, 9.5), (0, 8))
    ]
    assert Instances.concatenate(parts).novelty == 0.5
    assert Instances.concatenate([*parts[:1], some_objects(3)]).novelty == 0.5  # of some parts nothing is known
    empty = Instances.concatenate(parts[2:])
    assert (len(empty), empty.novelty, empty.unlike_training) == (0, 9.0, True)
    unknown = Instances.concatenate([some_objects(), some_objects(1)])
    assert (unknown.novelty, unknown.unlike_training) == (None, None)
    assert Instances.concatenate(parts)[:2].unlike_training is False


def test_tracks_go_with_their_objects() -> None:
    objects = replace(some_objects(), track_ids=torch.tensor([7, 2, 9, 1]))
    assert objects[objects.labels == 2].track_ids.tolist() == [2, 1]
    assert objects.above(0.6).track_ids.tolist() == [7, 2]
    assert objects.translate(1, 1, SIZE_HW).track_ids.tolist() == [7, 2, 9, 1]
    assert Instances.concatenate([objects, objects[:1]]).track_ids.tolist() == [7, 2, 9, 1, 7]
    assert Instances.concatenate([objects, some_objects()]).track_ids is None
    broken = some_objects()
    object.__setattr__(broken, "track_ids", torch.tensor([1]))
    with pytest.raises(ValueError, match="4 boxes but 1 track_ids"):
        Instances.__post_init__(broken)
