"""What the verbs share: where and how they print, and how they show what a job tells."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from halfpixel.jobs import events
from halfpixel.jobs.events import Announced, Event, Failure, Task, Warned
from halfpixel.jobs.wording import one_line

if TYPE_CHECKING:
    from halfpixel.evaluation.bootstrap import Interval
    from halfpixel.jobs.runner import Outcome
    from halfpixel.jobs.size_options import LookedAt

OUT = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
"""Results, and nothing else: with `--json` it has to parse."""
ERR = Console(markup=False, highlight=False, emoji=False, soft_wrap=True, stderr=True)
"""Errors, warnings and progress bars."""


FIELD = re.compile(r"`([a-z][a-z0-9_]*)`")
"""How texts of the library name what is given to it."""
OPTIONS = {"first": "--from", "goal": "--for", "last": "--to", "models": "--model", "thresholds": "--threshold"}
"""What is given under another name here."""


def in_options(text: str) -> str:
    """A text of the library, with the command line's options in place of fields: `most_images` is --most-images."""
    return FIELD.sub(lambda field: OPTIONS.get(field[1], f"--{field[1].replace('_', '-')}"), text)


def first_process() -> bool:
    """Whether this is the only process, or the first of torchrun's: the others are silent, but for errors."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str = "") -> None:
    """Print a line of the result."""
    if first_process():
        OUT.print(text)


def say_sizes(looked_at: LookedAt | None, whose: str = "") -> None:
    """Say at which size images were looked at, where that was asked for."""
    if looked_at is not None:
        say(f"{whose}Looked at images {looked_at}.")


def say_json(value: object) -> None:
    """Print a machine's twin of a table."""
    OUT.print(json.dumps(value, indent=1, allow_nan=False))


def show(table: Table) -> None:
    """Print a table, as wide as it needs to be where nobody looks at a terminal."""
    if OUT.is_terminal:
        OUT.print(table, soft_wrap=False)
        return
    wide = Console(markup=False, highlight=False, emoji=False, width=1000)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """An empty table; the columns in `right` are numbers and stand at the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def complain(error: object) -> None:
    """One line on stderr that says what is wrong."""
    ERR.print(f"halfpixel: error: {in_options(Failure.of('', error).message)}")


def warn(text: object) -> None:
    """One line on stderr about something that may surprise."""
    if first_process():
        ERR.print(f"halfpixel: warning: {in_options(one_line(text))}")


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """A number for a table, a dash where there is none; with `sign="+"` positive ones have a plus."""
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def between(interval: Interval | None, digits: int = 3) -> str:
    """An interval to stand after its number, nothing where there is none."""
    return "" if interval is None else f" ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def say_tied(tied: Sequence[float]) -> str:
    """That there are others, for the middle of a sentence; nothing where there are none."""
    if len(tied) < 2:
        return ""
    return f", the middle one of {len(tied)} that are equally good, from {tied[0]:g} to {tied[-1]:g}"


def progress_bar(*columns: str | ProgressColumn) -> Progress:
    """A bar on stderr, gone when it is done; none where stderr is not a terminal."""
    shown = columns or (MofNCompleteColumn(),)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *shown,
        TimeRemainingColumn(),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )


DESCRIPTIONS = {
    "download": "Downloading {what}",
    "prepare": "Preparing the network for {what}",
    "predict": "Predicting",
    "open": "Opening {what}",
    "time": "Timing",
    "check": "Looking at {what}",
}


class Listener:
    """Shows on stderr what a job tells, while it runs: bars, failures and warnings."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: Task | None = None
        self._warned: list[str] = []

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, events.Progress):
            self._advance(event)
        elif isinstance(event, Failure):
            complain(event.message)
        elif isinstance(event, Warned):
            warn(event.text)
            self._warned.append(event.text)
        elif isinstance(event, Announced):
            say(event.text)

    def finish(self, outcome: Outcome) -> int:
        """Show the warnings that were not told while the job ran; what the command is to return."""
        for text in outcome.warnings[len(self._warned) :]:
            warn(text)
        return outcome.exit_code

    def _advance(self, event: events.Progress) -> None:
        if event.task != self._task or self._bar is None:
            self._close()
            self._task, self._bar = event.task, progress_bar(*_columns(event.task))
            self._bar.start()
            self._bar.add_task("")
            if event.task == "download" and not ERR.is_terminal:
                size = f" ({event.total / 1e6:.0f} MB)" if event.total else ""
                ERR.print(f"Downloading the model {event.what}{size}")
        description = DESCRIPTIONS[event.task].format(what=event.what)
        self._bar.update(self._bar.tasks[0].id, description=description, completed=event.done, total=event.total)
        if event.done == event.total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def _columns(task: Task) -> tuple[ProgressColumn, ...]:
    if task == "download":
        return (DownloadColumn(),)
    return (TextColumn("up to a minute, the first time"),) if task == "prepare" else ()
