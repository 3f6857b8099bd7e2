"""What a run has found so far, one small file an image, so that a run that broke off can be gone on with.

The files lie in a hidden folder. Each is written whole, and only after all else that belongs to its image, so that a
run can be killed at any moment and loses the image it was at. Large results that span all images are put together
from these files, one after the other, so that no more than one image is ever in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel import __version__
from halfpixel.errors import ArgumentError
from halfpixel.files import write_with_folder
from halfpixel.jobs.wording import name_some, plural

if TYPE_CHECKING:
    from halfpixel.data.images.picture import Picture, Reading

RUN = "run.json"

Facts = dict[str, Any]
"""What summaries need of one image, as plain JSON values."""


class Journal:
    """What one run has done so far.

    Attributes:
        folder: where they are; None keeps the facts alone, in memory.
        names: for each image file one that stays the same from run to run.
    """

    def __init__(self, folder: Path | None, options: Mapping[str, object], names: Mapping[Path, str]) -> None:
        self.folder = folder
        self.names = names
        # as they come back from the file
        self._options: Facts = json.loads(json.dumps({"version of halfpixel": __version__, **options}))
        self._stamps = {name: _stamp(path) for path, name in names.items()}
        self._numbers: dict[str, int] = {}
        self._facts: dict[str, dict[str, Facts]] = {name: {} for name in names.values()}
        self._begun = False

    def resume(self) -> None:
        """Take over what an earlier run with the same options has left, if there is one.

        Images may have been added since. Those that were changed are looked at again.

        Raises:
            ArgumentError: that run had other options, or images that are not among these.
        """
        if self.folder is None or not was_interrupted(self.folder):
            return
        before = json.loads((self.folder / RUN).read_bytes())
        for option in dict.fromkeys([*before["options"], *self._options]):
            then, now = before["options"].get(option), self._options.get(option)
            if then != now:
                raise ArgumentError(
                    f"`resume`: the interrupted run had another {_named(option)} ({_shown(then)} then, {_shown(now)} "
                    "now): give the same, or begin anew without `resume`"
                )
        gone = [name for name in before["images"] if name not in self._facts]
        if gone:
            raise ArgumentError(
                f"`resume`: {plural(len(gone), 'image')} of the interrupted run ({name_some(gone)}) would be missing "
                "in this one: give all of them, or begin anew without `resume`"
            )
        self._numbers = {name: number for name, (number, _) in before["images"].items()}
        named = {number: name for name, number in self._numbers.items()}
        for path in self.folder.glob("[0-9]*.json"):
            number, _, plane = path.stem.partition("-")
            name = named[int(number)]
            facts = _read_facts(path)
            if facts is None or before["images"][name][1] != self._stamps[name]:
                path.unlink()
            else:
                self._facts[name][plane] = facts

    def unfinished(self, reading: Reading) -> list[Path]:
        """The files of which something is still to be looked at."""
        return [path for path in self.names if not self._is_complete(path, reading)]

    def knows(self, path: Path, plane: str) -> bool:
        """Whether an image was looked at."""
        return plane in self._facts[self.names[path]]

    def in_parallel(self, reading: Reading) -> bool:
        """Whether small images are looked at several at once: as if the run had not been interrupted."""
        return len(self.names) > 1 or reading.planes == "all"

    def _is_complete(self, path: Path, reading: Reading) -> bool:
        """Whether all planes of a file that are read are known."""
        known = list(self._facts[self.names[path]].values())
        return bool(known) and (reading.planes == "first" or len(known) == known[0]["n_planes"])

    def begin(self) -> None:
        """Say in the folder which run this is, once, before the first image's results are written."""
        if self._begun or self.folder is None:
            return
        if not self._numbers:
            remove_journal(self.folder)
        for name in self._facts:
            self._numbers.setdefault(name, len(self._numbers))
        images = {name: (number, self._stamps[name]) for name, number in self._numbers.items()}
        run = {"options": self._options, "images": images}
        write_with_folder(self.folder / RUN, (json.dumps(run) + "\n").encode())
        self._begun = True

    def add(self, picture: Picture, facts: Facts, records: Sequence[object] = ()) -> None:
        """Keep what one image gave, after all else that belongs to it has been written.

        Args:
            picture: the image.
            facts: stay in memory, too.
            records: anything that JSON can hold, to be read again one by one.
        """
        self.begin()
        name = self.names[picture.path]
        if self.folder is not None:
            lines = "".join(json.dumps(value) + "\n" for value in (facts, *records))
            write_with_folder(self._file(self.folder, name, picture.plane), lines.encode())
        self._facts[name][picture.plane] = facts

    def facts(self) -> list[Facts]:
        """Of all images, in the order of the files and, inside each, of the planes' names."""
        return [self._facts[name][plane] for name, plane in self._order()]

    def records(self, number: int) -> Iterator[Any]:
        """Of all images in the order of `facts` the record with this number, read one by one."""
        assert self.folder is not None, "in memory there are no records"
        for name, plane in self._order():
            with self._file(self.folder, name, plane).open("rb") as file:
                for _ in range(1 + number):
                    file.readline()
                yield json.loads(file.readline())

    def remove(self) -> None:
        """The run is complete: its journal is not needed any more."""
        if self.folder is not None:
            remove_journal(self.folder)

    def _file(self, folder: Path, name: str, plane: str) -> Path:
        return folder / f"{self._numbers[name]:06d}{'-' + plane if plane else ''}.json"

    def _order(self) -> Iterator[tuple[str, str]]:
        return ((name, plane) for name, planes in self._facts.items() for plane in sorted(planes))


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C in here is answered with the way to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("(the same command with `resume` goes on)") from None


def was_interrupted(folder: Path) -> bool:
    """Whether a run was begun here and did not come to its end."""
    return (folder / RUN).is_file()


def remove_journal(folder: Path) -> None:
    """Remove what a run has left in its hidden folder."""
    (folder / RUN).unlink(missing_ok=True)  # first: without it, the rest is no run
    shutil.rmtree(folder, ignore_errors=True)


def _stamp(path: Path) -> list[int]:
    """Changes when the file does."""
    try:
        facts = path.stat()
    except OSError:  # reading it will say why
        return [0, 0]
    return [facts.st_size, facts.st_mtime_ns]


def _read_facts(path: Path) -> Facts | None:
    """The first line of a part, or None where a crash of the whole machine has left half a file."""
    try:
        data = path.read_bytes()
        return dict(json.loads(data[: data.index(b"\n")])) if data.endswith(b"\n") else None
    except ValueError:
        return None


def _named(option: str) -> str:
    """A field by its name, or what else has to be the same."""
    return f"`{option}`" if option.isidentifier() else option


def _shown(value: object) -> str:
    return "none" if value is None else str(value)
