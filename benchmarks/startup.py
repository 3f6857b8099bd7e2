"""How long a fresh process takes: each verb's help, and one image from a cold start.

Every command is a process of its own, and all are interleaved, so that what else the machine does meets all of them.
Files are in the page cache after the first round, which is not counted. Ratios are of the same round, to `import torch,
torchvision`, which whoever runs torchvision's Mask R-CNN waits for before anything happens. Seconds of processor time
are those of all threads together: they move less than wall-clock time on a machine that does other things as well.

    python benchmarks/startup.py --json startup.json
    python benchmarks/startup.py --image cells.png --only "halfpixel count" "import torch, torchvision"
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from cyclopts import App
from rich.console import Console
from rich.table import Table

from halfpixel.cli import build_app
from halfpixel.data.images.rgb8 import png_bytes
from halfpixel.data.synthetic import touching_cells
from halfpixel.files import write_whole
from halfpixel.report.machine import describe_machine

Commands = dict[str, list[str]]
Row = dict[str, Any]

TORCH, PEER = "import torch", "import torch, torchvision"
COUNT, PREDICT = "halfpixel count", "halfpixel predict"
FIELD_HW, CELLS = (520, 696), 60
"""The image that is generated, when none is given."""

MOST_HELP_S, MOST_COUNT = 0.4, 2.0
"""The bars: seconds for any help, and how many times as long as PEER a cold count may take."""


def verbs(app: App, *above: str) -> Iterator[tuple[str, ...]]:
    """The words of every command that has a help text, the program itself included."""
    yield above
    for name in app:
        if not name.startswith("-"):
            yield from verbs(app[name], *above, name)


def commands(image: Path, out: Path) -> Commands:
    """What is timed, by the name of its row."""
    halfpixel = [sys.executable, "-m", "halfpixel"]
    found = {
        shlex.join(["halfpixel", *words, "--help"]): [*halfpixel, *words, "--help"] for words in verbs(build_app())
    }
    found |= {name: [sys.executable, "-c", name] for name in (TORCH, PEER)}
    found[COUNT] = [*halfpixel, "count", str(image)]
    found[PREDICT] = [*halfpixel, "predict", str(image), "--overwrite", "--out", str(out)]
    return found


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall-clock and processor time of a process.

    Raises:
        CalledProcessError: it failed.
    """
    before, start = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, getrusage(RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def interleaved_runs(commands: Commands, rounds: int) -> list[Row]:
    """Seconds of every command in every round but the first, which only warms up."""
    rows: dict[str, Row] = {name: {"command": name, "wall_s": [], "processor_s": []} for name in commands}
    for round in range(rounds + 1):
        for name, command in commands.items():
            wall, used = seconds(command)
            if round > 0:
                rows[name]["wall_s"].append(wall)
                rows[name]["processor_s"].append(used)
    for row in rows.values():
        for kind in ("wall", "processor") if PEER in rows else ():
            peer = rows[PEER][f"{kind}_s"]
            row[f"{kind}_ratio"] = [one / other for one, other in zip(row[f"{kind}_s"], peer, strict=True)]
    return list(rows.values())


def misses(rows: Sequence[Row]) -> list[str]:
    """What is slower than it should be."""
    found = []
    for row in rows:
        name, wall = row["command"], statistics.median(row["wall_s"])
        if name.endswith("--help") and wall > MOST_HELP_S:
            found.append(f"{name}: {wall:.2f} s, and should take at most {MOST_HELP_S}")
        ratio = statistics.median(row["wall_ratio"]) if "wall_ratio" in row else 0.0
        if name == COUNT and ratio > MOST_COUNT:
            found.append(f"{name}: {ratio:.2f} times `{PEER}`, and should take at most {MOST_COUNT}")
    return found


def table(rows: Sequence[Row]) -> Table:
    """Medians, and the spread of the wall-clock times."""
    shown = Table("command")
    for name in ("wall s", "from", "to", "ratio", "processor s", "ratio"):
        shown.add_column(name, justify="right")
    for row in rows:
        ratios = [f"{statistics.median(row[k]):.2f}" if k in row else "-" for k in ("wall_ratio", "processor_ratio")]
        wall, used = row["wall_s"], statistics.median(row["processor_s"])
        spread = f"{statistics.median(wall):.2f}", f"{min(wall):.2f}", f"{max(wall):.2f}"
        shown.add_row(row["command"], *spread, ratios[0], f"{used:.2f}", ratios[1])
    return shown


def main() -> None:
    """See the file's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="what is counted; default a generated field of 520 x 696 pixels")
    parser.add_argument("--rounds", type=int, default=7, help="that are counted (default %(default)s)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help="only these commands, named as in the table")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        image = options.image or Path(folder) / "cells.png"
        if options.image is None:
            write_whole(image, png_bytes(touching_cells(FIELD_HW, CELLS).picture))
        wanted = commands(image, Path(folder) / "out")
        if unknown := set(options.only or ()) - set(wanted):
            parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are {', '.join(wanted)}")
        wanted = {name: wanted[name] for name in options.only or wanted}
        rows = interleaved_runs(wanted, options.rounds)
    facts = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    Console(width=160).print(table(rows))
    for missed in misses(rows):
        print(f"MISSED {missed}")
    if options.json is not None:
        write_whole(options.json, json.dumps({"machine": facts, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
