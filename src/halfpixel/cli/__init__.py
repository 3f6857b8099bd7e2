"""The command line: one verb per file, each an ordinary function that parses, calls and prints."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from halfpixel import __version__
from halfpixel.cli.bench import bench
from halfpixel.cli.calibrate import calibrate
from halfpixel.cli.check import check
from halfpixel.cli.compare import compare
from halfpixel.cli.console import ERR, complain, in_options, warn
from halfpixel.cli.convert import convert
from halfpixel.cli.count import count
from halfpixel.cli.evaluate import evaluate
from halfpixel.cli.export import export
from halfpixel.cli.models import models
from halfpixel.cli.predict import predict
from halfpixel.cli.sweep import sweep
from halfpixel.cli.track import track
from halfpixel.cli.train import train
from halfpixel.errors import ArgumentError, HalfpixelError
from halfpixel.jobs.wording import one_line

INTERRUPTED = 130
"""What shells expect of a program that Ctrl-C ended."""

NEW_OBJECTS = 10_000
"""Garbage is looked for after so many (Python's own 700 means hundreds of times while torch is imported)."""


def _show_default(value: object) -> object:
    return None if value is False or value == () else value


def build_app() -> App:
    """The parser with all its verbs."""
    app = App(
        name="halfpixel",
        help="Find every object in an image, cut each one out, count them and measure them.",
        version=__version__,
        suppress_keyboard_interrupt=False,
        default_parameter=Parameter(
            negative_bool=(), negative_iterable=(), negative_none=(), show_default=_show_default
        ),
    )
    for verb in (predict, count, track, evaluate, compare, sweep, calibrate, train, models, export, bench):
        app.command(verb)
    data = App(name="data", help="Look after annotated images: check them, bring them to another format.")
    data.command(check)
    data.command(convert)
    app.command(data)
    return app


def main() -> NoReturn:
    """Run the command that `sys.argv` holds; the exit code is 0, 1 (some files failed) or 2 (bad input)."""
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)  # the end of the process need not look for garbage among all that was imported
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a file name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = lambda message, *_, **__: warn(message)
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, for example `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """An empty path would be this folder, and comes of a variable of the shell that is not set."""
    for before, argument in itertools.pairwise(["halfpixel", *arguments]):
        if not argument:
            raise ArgumentError(f"the argument after {before} is empty")
        if argument.startswith("--") and argument.partition("=")[1:] == ("=", ""):
            raise ArgumentError(f"{argument} is empty")


def _run(arguments: list[str]) -> int:
    try:
        _refuse_empty(arguments)
        result = build_app()(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        verb = " ".join(("halfpixel", *(error.command_chain or ())))
        complain(f"{error} (see `{verb} --help`)")
    except BrokenPipeError:
        raise
    except HalfpixelError as error:
        complain(error)
    except OSError as error:  # what our own readers do not turn into an error of ours: a full disk, no permission
        complain(error)
    except KeyboardInterrupt as error:
        ERR.print(f"halfpixel: interrupted {in_options(one_line(error))}".rstrip())
        return INTERRUPTED
    return 2
