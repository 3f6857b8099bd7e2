"""Puts predictions beside the annotations they are to be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.structures.instances import Instances


def paired(dataset: Dataset, predictions: Sequence[Instances]) -> list[Instances]:
    """Check that there is one prediction per sample, and number its classes as the data set does.

    Classes are matched by name. Predicted objects of a class that the data set does not have are left out: nobody
    annotated them, so they can be neither right nor wrong.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`.

    Raises:
        ArgumentError: another number of predictions than samples, an image of another size, or no class in common.
    """
    if len(predictions) != len(dataset.samples):
        raise ArgumentError(
            f"{dataset.path}: expected {len(dataset.samples)} predictions, one per image, and got {len(predictions)}"
        )
    for sample, predicted in zip(dataset.samples, predictions, strict=True):
        if sample.size_hw != predicted.size_hw:
            raise ArgumentError(
                f"{sample.path}: annotated as {sample.size_hw[0]} x {sample.size_hw[1]} pixels (height x width), "
                f"but the prediction has {predicted.size_hw[0]} x {predicted.size_hw[1]}"
            )
    return [_renamed(predicted, dataset) for predicted in predictions]


def _renamed(predicted: Instances, dataset: Dataset) -> Instances:
    names = dataset.class_names
    if predicted.class_names == names:
        return predicted
    if not set(predicted.class_names) & set(names):
        raise ArgumentError(
            f"{dataset.path}: the predictions' classes ({', '.join(predicted.class_names)}) "
            f"and the annotations' ({', '.join(names)}) have no name in common"
        )
    numbers = torch.tensor([names.index(name) if name in names else -1 for name in predicted.class_names])
    labels = numbers[predicted.labels]
    known = predicted[labels >= 0]
    return replace(known, labels=labels[labels >= 0], class_names=names)
