"""What a job tells while it runs: how far it is, what it could not use, and what may surprise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halfpixel.jobs.wording import one_line

Task = Literal["download", "prepare", "predict", "open", "time", "check"]


@dataclass(frozen=True)
class Progress:
    """How far a task is.

    Attributes:
        task: what takes its time; `prepare` brings a network to another backend, `open` and `time` are of a benchmark,
            `check` looks at the images before a training.
        done: bytes of a download, images of all else.
        total: of them, None where it is not known. A task ends when all are done, or when another one begins.
        what: the task is about: a model, a backend.
    """

    task: Task
    done: int
    total: int | None
    what: str = ""


@dataclass(frozen=True)
class Failure:
    """Something that could not be used; the job goes on with the rest.

    Attributes:
        path: an image, or what was to stand for some.
        error: why, in one line.
        message: the same, to be read without the path.
    """

    path: str
    error: str
    message: str

    @classmethod
    def of(cls, path: str | Path, error: object) -> Failure:
        """From an error, or from a text that names the path."""
        message = error
        if isinstance(error, OSError) and error.filename and error.strerror:  # without its number
            message = f"{error.filename}: {error.strerror}"
        return cls(str(path), one_line(error), one_line(message))


@dataclass(frozen=True)
class Warned:
    """Something that may surprise, in one line."""

    text: str


@dataclass(frozen=True)
class Announced:
    """What is about to be done, in one line."""

    text: str


@dataclass(frozen=True)
class Trained:
    """How far a training is.

    Attributes:
        kind: it will `begin`, a `step` was taken, `validating` begins, or a `validation` is done.
        step: optimiser steps done.
        steps: of so many.
        values: numbers by name: of a step the loss terms and their `total`, of a validation `mask_ap`, `count_mae`, ...
    """

    kind: str
    step: int
    steps: int
    values: Mapping[str, float]


Event = Progress | Failure | Warned | Announced | Trained
Tell = Callable[[Event], None]
"""Hears of everything while it happens; what matters for the results is in them, too."""


def ignore(event: Event) -> None:
    """Hear of nothing."""
