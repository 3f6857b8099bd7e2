"""What every model promises. A new file in `halfpixel.models` is found and put through all of it."""

import copy
import dataclasses
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jaxtyping
import pytest
import torch
from networks import CLASSES, batch_of, dense_masks, enliven, few, modules, scene, smallest, weights
from torch import Tensor
from torchvision.ops import box_iou

from halfpixel.engine.backends.batching import of_images
from halfpixel.nn.network import Axis, Network, Semantic
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.modelfile import ModelInfo, load_model, save_model, settings_of, variant_names

ROWS = {"scores": torch.float32, "labels": torch.int64, "image_index": torch.int64, "boxes_xyxy": torch.float32}
"""What every network that gives rows has among them."""

SUFFICIENT = {"training_proposals": 200, "anchor_samples": 256, "region_samples": 128, "box_iou": 0.7, "mask_iou": 0.4}
"""Settings with which an image can be learnt by heart."""

SMALL_ENOUGH_TO_OVERFIT = 6_000_000
"""Weights. Larger networks take a step a second here."""

LARGE = 10_000_000
"""Weights. Larger variants promise the same, but not in every run of the tests."""

RANK_POINTS = {"point_rend_lite", "point_rend_r50_fpn"}
"""Variants that refine masks where they are least certain."""

SIDE = 64

NAMES = [
    pytest.param((module, name), id=name, marks=[pytest.mark.slow] if weights(module, name) > LARGE else [])
    for module in modules()
    for name in module.VARIANTS
]


@dataclasses.dataclass
class Case:
    name: str
    module: ModuleType
    model: Network
    images: Tensor
    sizes_hw: Tensor

    def named(self, axis: Axis) -> list[str]:
        """The outputs whose first axis counts so."""
        return [name for name, one in self.model.layout.items() if one == axis]


def prepared(module: ModuleType, name: str) -> Case:
    torch.manual_seed(0)
    model = module.VARIANTS[name](CLASSES, few(module)).eval()
    images = torch.stack([scene(SIDE, seed=1)[0], scene(SIDE, seed=2)[0]])
    images[1, :, 56:], images[1, :, :, 50:] = 0, 0
    return Case(name, module, enliven(model, images), images, torch.tensor([[SIDE, SIDE], [56, 50]]))


@pytest.fixture(params=NAMES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return prepared(*request.param)


@pytest.fixture
def detector(case: Case) -> Case:
    if "image_index" not in case.model.layout:
        pytest.skip("gives no rows")
    return case


@torch.no_grad()
def detect(case: Case, threshold: float = 0.2, limit: int = 12, **changes: Tensor) -> dict[str, Tensor]:
    given = {"images": case.images, "sizes_hw": case.sizes_hw} | changes
    return case.model(**given, limits=Limits.of(threshold, limit))


def find(case: Case, threshold: float = 0.2, limit: int = 12) -> list[Instances]:
    sizes = [Resized((SIDE, SIDE), (SIDE, SIDE)), Resized((28, 25), (56, 50))]
    return case.model.decode(detect(case, threshold, limit), sizes, Limits.of(threshold, limit))


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_a_file_of_models_names_its_paper_and_its_variants(module: ModuleType) -> None:
    assert re.search(r"arXiv:\d{4}\.\d{5}", module.__doc__ or "")
    assert re.search(r"[Dd]eviation", module.__doc__ or "")
    assert module.VARIANTS
    assert set(module.VARIANTS) <= set(variant_names())


def test_the_outputs_are_what_the_layout_says(case: Case) -> None:
    outputs = detect(case)
    assert outputs.keys() == case.model.layout.keys()
    for name in (*case.named("map"), *case.named("image")):
        assert len(outputs[name]) == 2, name
    for name in case.named("map"):
        height, width = outputs[name].shape[-2:]
        assert SIDE % height == SIDE % width == 0, name
    assert len({len(outputs[name]) for name in case.named("row")}) <= 1
    for tensor in outputs.values():
        assert not tensor.requires_grad
        assert tensor.dtype != torch.float64
        assert torch.isfinite(tensor.float()).all()


def test_rows_are_sorted(detector: Case) -> None:
    outputs = detect(detector)
    assert ROWS.keys() <= set(detector.named("row"))
    assert {name: outputs[name].dtype for name in ROWS} == ROWS
    assert len(outputs["scores"]) > 10
    assert set(outputs["image_index"].tolist()) == {0, 1}
    assert set(outputs["labels"].tolist()) == {0, 1}
    for k in range(2):
        scores = outputs["scores"][outputs["image_index"] == k]
        assert (scores > 0.2).all()
        assert torch.equal(scores, scores.sort(descending=True).values)
    assert torch.equal(outputs["image_index"], outputs["image_index"].sort().values)


def test_output_layers_are_the_last_to_speak(case: Case) -> None:
    """They are layers of the network, and a head swap changes no shape of any other."""
    model = case.model
    for name in model.output_layers:
        assert isinstance(model.get_submodule(name), torch.nn.Conv2d | torch.nn.Linear)
    before = {name: tensor.shape for name, tensor in model.state_dict().items()}
    swapped = model.with_classes(("a", "b", "c", "d"))
    assert swapped.class_names == ("a", "b", "c", "d")
    assert model.class_names == CLASSES
    changed = {name.rpartition(".")[0] for name, t in swapped.state_dict().items() if t.shape != before[name]}
    assert changed
    assert changed <= set(model.output_layers)
    kept = {name for name in before if name.rpartition(".")[0] not in model.output_layers}
    assert all(torch.equal(swapped.state_dict()[name], model.state_dict()[name]) for name in kept)


def test_the_recipe_is_one(case: Case) -> None:
    assert dataclasses.replace(Recipe(), **case.model.RECIPE) != Recipe() or not case.model.RECIPE


def test_boxes_stay_inside_the_true_size(detector: Case) -> None:
    outputs = detect(detector, limit=30)
    for k, (height, width) in enumerate(detector.sizes_hw.tolist()):
        boxes = outputs["boxes_xyxy"][outputs["image_index"] == k]
        assert boxes.min() >= 0
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height
        assert (boxes[:, 2] == width).any() or (boxes[:, 3] == height).any()  # some reach the edge and were cut
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_foreground_is_a_map_of_probabilities(case: Case) -> None:
    if not isinstance(case.model, Semantic):
        pytest.skip("says nothing of single pixels")
    foreground = case.model.foreground(detect(case))
    assert foreground.shape == (2, SIDE, SIDE)
    assert 0 <= foreground.min() < 0.3 < 0.7 < foreground.max() <= 1


def test_objects_are_whole(case: Case) -> None:
    for objects, size_hw in zip(find(case), [(SIDE, SIDE), (28, 25)], strict=True):
        assert 0 < len(objects) <= 12
        assert objects.size_hw == size_hw
        assert objects.class_names == CLASSES
        assert (objects.scores > 0.2).all()
        assert torch.equal(objects.scores, objects.scores.sort(descending=True).values)
        boxes = objects.boxes_xyxy
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= size_hw[1]).all()
        assert (boxes[:, 3] <= size_hw[0]).all()
        if objects.masks is not None:
            assert objects.masks.dense().shape == (len(objects), *size_hw)


def test_masks_keep_what_they_were_cut_from(case: Case) -> None:
    """A map over each box, so that other thresholds and area intervals derive from it."""
    for objects in find(case):
        if objects.masks is None:
            pytest.skip("gives no masks")
        assert objects.masks.soft is not None
        assert len(objects.masks.soft) == len(objects)
        assert all(one.min() >= 0 and one.max() <= 1 for one in objects.masks.soft.maps)
        assert torch.equal(objects.masks.at_threshold(0.5).dense(), objects.masks.dense())
        areas = torch.stack([objects.masks.at_threshold(one).areas_px() for one in (0.05, 0.3, 0.5, 0.7, 0.95)])
        assert (areas.diff(dim=0) <= 0).all()
        assert (areas[0] > areas[-1]).any()


def test_nothing_found(case: Case) -> None:
    outputs = detect(case, threshold=0.99999)
    assert all(len(outputs[name]) == 0 for name in case.named("row"))
    for objects in find(case, threshold=0.99999):
        assert len(objects) == 0
        assert not objects.saturated
        if objects.masks is not None:
            assert objects.masks.dense().shape == (0, *objects.size_hw)


def test_one_image_or_many(case: Case) -> None:
    precise = copy.deepcopy(case.model).double()  # rounding must not decide which of two that score the same is first
    case = dataclasses.replace(case, model=precise, images=case.images.double())
    together = detect(case)
    for k in range(2):
        alone = detect(case, images=case.images[k : k + 1], sizes_hw=case.sizes_hw[k : k + 1])
        of_it = of_images(together, case.model.layout, k, 1)
        assert set(of_it) == set(alone)
        for name in (*case.named("map"), *case.named("image")):
            atol, rtol = (1.0, 0.01) if name == "candidates" else (1e-3, 1e-3)  # at the threshold rounding decides
            torch.testing.assert_close(alone[name], of_it[name], atol=atol, rtol=rtol)
        for name in case.named("row"):
            assert_close_rows(case, name, alone[name], of_it[name], atol=0.02)


def assert_close_rows(case: Case, name: str, found: Tensor, expected: Tensor, atol: float) -> None:
    """But for few cells of masks whose points are ranked: rounding decides which of two is looked at again."""
    if name == "masks" and case.name in RANK_POINTS:
        assert ((found - expected).abs() > atol).float().mean() < 0.005
    else:
        torch.testing.assert_close(found, expected, atol=atol, rtol=1e-3)


def test_the_same_twice(case: Case) -> None:
    first, second = detect(case), detect(case)
    assert all(torch.equal(first[name], second[name]) for name in first)
    images, targets = batch_of(case.images[0]), [scene(SIDE, seed=1)[1]]
    losses = []
    for seed in (3, 4):  # what is chosen at random depends on the targets' seed alone
        torch.manual_seed(seed)
        with torch.no_grad():
            losses.append({name: float(value) for name, value in case.model.losses(images, targets).items()})
    assert losses[0] == losses[1]


def test_the_limit_keeps_the_best_and_says_so(detector: Case) -> None:
    twelve, three = detect(detector, threshold=0.02), detect(detector, threshold=0.02, limit=3)
    for k in range(2):
        best, kept = twelve["image_index"] == k, three["image_index"] == k
        assert int(best.sum()) == 12
        assert int(kept.sum()) == 3
        for name in detector.named("row"):
            assert_close_rows(detector, name, three[name][kept], twelve[name][best][:3], atol=1e-3)
    threshold = float(twelve["scores"][twelve["image_index"] == 0][7])  # seven score more
    for limit, saturated in [(12, False), (7, False), (6, True)]:
        assert find(detector, threshold, limit)[0].saturated == saturated


def test_the_limit_only_cuts(case: Case) -> None:
    for limit in (1, 5, 20):
        for some, every in zip(find(case, 0.1, limit), find(case, 0.1, 100_000), strict=True):
            assert 1 <= len(some) <= limit
            assert some.saturated or len(some) == len(every)
            assert torch.equal(some.scores, every.scores[: len(some)])
            assert torch.equal(some.boxes_xyxy, every.boxes_xyxy[: len(some)])


def test_decoding_uses_no_weights(case: Case) -> None:
    outputs = detect(case)
    sizes = [Resized((32, 128), (SIDE, SIDE)), Resized((56, 50), (56, 50))]
    ghost = copy.deepcopy(case.model).to("meta")
    limits = Limits.of(0.2, 12)
    found, expected = ghost.decode(outputs, sizes, limits), case.model.decode(outputs, sizes, limits)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.boxes_xyxy, b.boxes_xyxy)
        assert (a.masks is None) == (b.masks is None)
        if a.masks is not None and b.masks is not None:
            assert torch.equal(a.masks.dense(), b.masks.dense())
    first = expected[0]
    assert first.size_hw == (32, 128)
    assert first.class_names == CLASSES
    if "image_index" in outputs:  # unless masks correct the boxes
        rows = outputs["image_index"] == 0
        scaled = outputs["boxes_xyxy"][rows] * torch.tensor([2.0, 0.5, 2.0, 0.5])
        torch.testing.assert_close(first.boxes_xyxy, scaled)


def train_once(case: Case, crowd: bool, objects: tuple[int, int], many_sizes: bool = False) -> dict[str, Tensor]:
    scenes = [scene(SIDE, objects=n, seed=k) for k, n in enumerate(objects)]
    if many_sizes:
        scenes += [scene(SIDE, objects=1, seed=2, larger=3.0), scene(SIDE, objects=4, seed=3, larger=0.5)]
    # with these seeds anchors of every pyramid level are among the chosen
    targets = [dataclasses.replace(target, seed=k + 1) for k, (_, target) in enumerate(scenes)]
    if crowd:
        targets[1] = dataclasses.replace(targets[1], ignored_xyxy=torch.tensor([[0.0, 0.0, 64.0, 64.0]]))
    case.model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    losses: dict[str, Tensor] = case.model.train().losses(batch_of(*(image for image, _ in scenes)), targets)
    torch.stack(list(losses.values())).sum().backward()
    case.model.eval()
    return losses


def gradients(case: Case) -> dict[str, Tensor | None]:
    found = {name: p.grad for name, p in case.model.named_parameters() if p.requires_grad}
    case.model.zero_grad(set_to_none=True)
    return found


def test_training_reaches_every_weight(case: Case) -> None:
    losses = train_once(case, crowd=False, objects=(4, 3), many_sizes=True)  # some for every level of a pyramid
    assert all(value.ndim == 0 and torch.isfinite(value) and value > 0 for value in losses.values())
    for name, gradient in gradients(case).items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().max() > 0, name


@pytest.mark.parametrize(("objects", "crowd"), [((0, 0), False), ((0, 0), True), ((0, 2), False)])
def test_images_without_objects_train_too(case: Case, objects: tuple[int, int], crowd: bool) -> None:
    losses = train_once(case, crowd, objects)
    assert all(torch.isfinite(value) for value in losses.values())
    found = gradients(case)
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in found.values())


def test_a_model_file_gives_the_same_network(case: Case, tmp_path: Path) -> None:
    info = ModelInfo(case.name, CLASSES, settings=settings_of(case.model))
    save_model(tmp_path / "m.safetensors", case.model, info)
    loaded, read = load_model(tmp_path / "m.safetensors")
    assert read == info
    before, after = detect(case), detect(dataclasses.replace(case, model=loaded))
    assert all(torch.equal(before[name], after[name]) for name in before)


def overlaps(target: Targets, found: Instances) -> Tensor:
    """`[n_target, n_found]` by masks, or by boxes where there are no masks."""
    if found.masks is None:
        return box_iou(target.boxes_xyxy, found.boxes_xyxy)
    truth, masks = dense_masks(target)[:, None], found.masks.dense()
    return (masks & truth).sum((2, 3)) / (masks | truth).sum((2, 3))


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_smallest_variant_learns_one_image_by_heart(module: ModuleType) -> None:
    torch.manual_seed(0)
    model = smallest(module, **SUFFICIENT)
    assert sum(p.numel() for p in model.parameters()) < SMALL_ENOUGH_TO_OVERFIT
    image, target = scene(96)
    images = batch_of(image)
    optimiser = torch.optim.AdamW(model.train().parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, total_steps=120)
    totals = []
    for step in range(120):
        chosen = dataclasses.replace(target, seed=step)  # other anchors and regions each time, as in a training run
        total = torch.stack(list(model.losses(images, [chosen]).values())).sum()
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        totals.append(float(total.detach()))
    assert sum(totals[-5:]) / 5 < 0.3 * totals[0]
    with torch.no_grad():
        limits = Limits.of(0.5, 50)
        outputs = model.eval()(images.tensor, images.sizes_hw, limits)
    (found,) = model.decode(outputs, [Resized((96, 96), (96, 96))], limits)
    for ious, label in zip(overlaps(target, found), target.labels.tolist(), strict=True):
        assert ious[found.labels == label].max() > 0.7


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """While a graph is made, sizes are symbols."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__.rpartition(".")[2])
def test_the_exported_graph_finds_the_same_objects(module: ModuleType) -> None:
    """Of the smallest variant; threshold and limit stay inputs."""
    torch.manual_seed(0)
    images = torch.stack([scene(96, seed=seed)[0] for seed in (1, 2)])
    model = enliven(smallest(module).eval(), images)
    sizes_hw = torch.tensor([[96, 96], [90, 80]])
    sides = {k + 2: 32 * torch.export.Dim(name, min=1, max=4096) for k, name in enumerate(("rows", "columns"))}
    shapes = {"images": sides, "sizes_hw": None, "limits": Limits(None, None)}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torchvision's, about its own registrations
        example = (images, sizes_hw, Limits.of(0.3, 20))
        program = torch.export.export(model, example, dynamic_shapes=shapes, strict=False).module()
    others = torch.stack([scene(128, seed=seed)[0] for seed in (3, 4)])[:, :, :96]
    for threshold, limit in [(0.3, 20), (0.2, 7), (0.02, 100), (0.9999999, 5)]:
        given = (others, torch.tensor([[70, 96], [96, 128]]), Limits.of(threshold, limit))
        with torch.no_grad():
            eager, exported = model(*given), program(*given)
        assert eager.keys() == exported.keys()
        for name, tensor in eager.items():
            near = 1e-3 if name == "boxes_xyxy" else 1e-4  # pixels
            torch.testing.assert_close(exported[name], tensor, atol=near, rtol=1e-4)
