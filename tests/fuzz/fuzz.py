"""Mutated files through every reader: each ends in a result or in an error of our own, in bounded memory and time.

Run from the project's root:

    .venv/bin/python tests/fuzz/fuzz.py [--seed N] [--inputs N] [--seconds S] [--keep FOLDER]

Every input follows from the seed and its number, whatever the machine. What fails is kept, and the command ends with 1.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from mutate import ANY, TEXT, VALUES, mutated  # noqa: E402
from seeds import Seed, is_text, write_seeds  # noqa: E402

PATIENCE_S = 20.0
"""One file takes no longer."""

SHARES = {"image": 6, "annotations": 5, "model": 1}
"""How often each kind is drawn; a model is the slowest to read."""


class Reader:
    """The process that reads; another one takes its place when it hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def read(self, kind: str, path: Path) -> dict[str, str]:
        """What came of a file: `error` is "" for a result, and begins with "foreign" for what should not have been."""
        process = self._process = self._process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([kind, str(path)]) + "\n")
        process.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            answered = ready.select(PATIENCE_S)
        line = process.stdout.readline() if answered else ""
        if line:
            answer: dict[str, str] = json.loads(line)
            return answer
        what = f"foreign end of the process ({process.wait(5)})" if answered else f"foreign hang of {PATIENCE_S:g} s"
        self._end()
        return {"error": what, "where": "", "text": ""}

    def _begin(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "reader.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        return process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Summary:
    """What came of all inputs.

    Attributes:
        outcomes: how many of each kind of file ended how.
        failures: one line for each input that ended wrongly.
        seconds: what the slowest took.
    """

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __len__(self) -> int:
        return self.outcomes.total()

    def __str__(self) -> str:
        lines = [f"{kind:12} {error or 'read':24} {n:7,}" for (kind, error), n in sorted(self.outcomes.items())]
        return "\n".join([*lines, f"{len(self):,} inputs, the slowest took {self.seconds:.1f} s", *self.failures])


def inputs(seeds: Sequence[Seed], folder: Path, seed: int, start: int = 0) -> Iterator[tuple[Seed, int, Path]]:
    """Mutations one after the other: what each was made of, its number, and the path to read, until the next one."""
    by_kind = {kind: [one for one in seeds if one.kind == kind] for kind in SHARES}
    number = start
    while True:
        rng = random.Random(f"{seed}/{number}")
        chosen = rng.choice(by_kind[rng.choices(list(SHARES), list(SHARES.values()))[0]])
        victim = rng.choice(chosen.mutable)
        copy = folder / (chosen.root.name if chosen.root.is_dir() else f"{number}{chosen.root.suffix}")
        if chosen.root.is_dir():
            shutil.copytree(chosen.root, copy)
            (copy / victim.relative_to(chosen.root)).write_bytes(_mutated(victim, rng))
        else:
            copy.write_bytes(_mutated(victim, rng))
        yield chosen, number, copy / chosen.read.relative_to(chosen.root)
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink()
        number += 1


def _mutated(path: Path, rng: random.Random) -> bytes:
    source = path.read_bytes()
    if path.suffix == ".safetensors" and rng.random() < 0.9:
        return _described_otherwise(source, rng)
    return mutated(source, rng, (*ANY, *TEXT) if is_text(path) else ANY)


def _described_otherwise(source: bytes, rng: random.Random) -> bytes:
    """The weights as they are, and something else in the header, mostly in what the model says of itself."""
    length = int.from_bytes(source[:8], "little")
    header, weights = source[8 : 8 + length], source[8 + length :]
    if rng.random() < 0.8:
        tables = json.loads(header)
        described = mutated(tables["__metadata__"]["halfpixel"].encode(), rng, VALUES if rng.random() < 0.7 else TEXT)
        tables["__metadata__"]["halfpixel"] = described.decode("utf-8", "replace")
        header = json.dumps(tables).encode()
    else:
        header = mutated(header, rng, TEXT)
    return len(header).to_bytes(8, "little") + header + weights


def fuzz(folder: Path, seed: int, most: int, seconds: float, keep: Path | None = None, start: int = 0) -> Summary:
    """Read so many mutations, or as many as there is time for.

    Args:
        folder: for seeds and mutations; empty.
        seed: decides all of them.
        most: inputs.
        seconds: no more are begun after these.
        keep: where inputs that fail are copied to.
        start: the number of the first one.
    """
    summary, end = Summary(), time.monotonic() + seconds
    seeds = write_seeds(folder / "seeds")
    work = folder / "work"
    work.mkdir()
    with Reader() as reader:
        for one in seeds:
            answer = reader.read(one.kind, one.read)
            assert not answer["error"], f"{one.name} is whole and cannot be read: {answer}"
        for one, number, path in inputs(seeds, work, seed, start):
            if len(summary) >= most or time.monotonic() > end:
                break
            began = time.monotonic()
            answer = reader.read(one.kind, path)
            summary.seconds = max(summary.seconds, time.monotonic() - began)
            summary.outcomes[one.kind, answer["error"]] += 1
            if answer["error"].startswith("foreign"):
                said = ": ".join(part for part in (answer["error"], answer["text"], answer["where"]) if part)
                summary.failures.append(f"seed {seed}, input {number} ({one.name}): {said}")
                if keep is not None:
                    _keep(path, one, work, keep / f"{seed}-{number}")
    return summary


def _keep(path: Path, one: Seed, work: Path, to: Path) -> None:
    to.mkdir(parents=True, exist_ok=True)
    whole = work / path.relative_to(work).parts[0]
    if one.root.is_dir():
        shutil.copytree(whole, to / whole.name, dirs_exist_ok=True)
    else:
        shutil.copy(whole, to / one.root.name)


def main() -> int:
    """Print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=10**9, help="at most so many")
    parser.add_argument("--start", type=int, default=0, help="the number of the first one")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--keep", type=Path, help="a folder for inputs that fail")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="halfpixel-fuzz-") as folder:
        summary = fuzz(Path(folder), given.seed, given.inputs, given.seconds, given.keep, given.start)
    sys.stdout.write(f"seed {given.seed}\n{summary}\n")
    return 1 if summary.failures else 0


if __name__ == "__main__":
    sys.exit(main())
