"""Matching and losses of queries against transformers' RT-DETR, and masks against dense ones."""

import pytest
import torch
from torch import Tensor

from halfpixel.nn.query_losses import matching_cost, query_terms

QUERIES, OBJECTS, CLASSES = 30, 7, 4


def said(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(QUERIES, CLASSES, generator=generator) - 1
    truth = 0.2 + 0.5 * torch.rand(OBJECTS, 4, generator=generator)
    near = truth.repeat(5, 1)[:QUERIES] + 0.08 * torch.randn(QUERIES, 4, generator=generator)
    return logits, near.clamp(0.05, 0.95), torch.randint(CLASSES, (OBJECTS,), generator=generator), truth


def partner() -> tuple[torch.nn.Module, torch.nn.Module]:
    transformers = pytest.importorskip("transformers")
    from transformers.loss.loss_rt_detr import RTDetrHungarianMatcher, RTDetrLoss

    config = transformers.RTDetrConfig(num_labels=CLASSES)
    return RTDetrHungarianMatcher(config), RTDetrLoss(config)


@pytest.mark.parametrize("seed", range(4))
def test_queries_and_objects_are_paired_as_in_transformers(seed: int) -> None:
    from halfpixel.nn.hungarian import assign

    logits, predicted, labels, truth = said(seed)
    queries, objects = assign(matching_cost(logits, predicted, labels, truth))
    matcher, _ = partner()
    ((theirs, their_objects),) = matcher(
        {"logits": logits[None], "pred_boxes": predicted[None]}, [{"class_labels": labels, "boxes": truth}]
    )
    assert torch.equal(queries, theirs)
    assert torch.equal(objects, their_objects)


def test_terms_are_those_of_transformers() -> None:
    logits, predicted, labels, truth = said()
    queries = torch.arange(OBJECTS) + 7
    found = query_terms(logits, predicted, labels, truth, queries, torch.zeros(QUERIES, dtype=torch.bool))
    _, losses = partner()
    outputs = {"logits": logits[None], "pred_boxes": predicted[None]}
    targets, pairs = [{"class_labels": labels, "boxes": truth}], [(queries, torch.arange(OBJECTS))]
    (classes,) = losses.loss_labels_vfl(outputs, targets, pairs, 1).values()
    boxes = losses.loss_boxes(outputs, targets, pairs, 1)
    torch.testing.assert_close(found.classes, classes)
    torch.testing.assert_close(found.boxes, boxes["loss_bbox"])
    torch.testing.assert_close(found.overlaps, boxes["loss_giou"])


def test_ignored_queries_cost_nothing_unless_they_are_objects() -> None:
    logits, predicted, labels, truth = said()
    queries, everyone = torch.arange(OBJECTS), torch.ones(QUERIES, dtype=torch.bool)
    ignored = query_terms(logits, predicted, labels, truth, queries, everyone)
    fewer = query_terms(logits[:OBJECTS], predicted[:OBJECTS], labels, truth, queries, ~everyone[:OBJECTS])
    torch.testing.assert_close(ignored.classes, fewer.classes)


def test_nothing_to_find() -> None:
    logits, predicted, labels, truth = said()
    none = torch.zeros(0, dtype=torch.int64)
    assert matching_cost(logits, predicted, labels[:0], truth[:0]).shape == (QUERIES, 0)
    predicted.requires_grad_()
    terms = query_terms(logits, predicted, none, truth[:0], none, torch.zeros(QUERIES, dtype=torch.bool))
    assert terms.classes > 0
    assert terms.boxes == terms.overlaps == 0
    sum(terms).backward()
    assert predicted.grad is not None
