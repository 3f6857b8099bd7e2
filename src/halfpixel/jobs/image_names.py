"""What images are called in results: names that never collide."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from halfpixel.files import NAME_BYTES, shortened


def output_names(paths: Sequence[Path]) -> list[str]:
    """A name for each image: its path from the folder that all of them have in common, with `/`."""
    full = [Path(os.path.normpath(path.absolute())) for path in paths]
    common = os.path.commonpath([path.parent for path in full]) if full else "."
    # a name that is not text (bytes of another encoding) would make the files unreadable for others
    return [os.fsencode(path.relative_to(common).as_posix()).decode(errors="replace") for path in full]


def output_stems(names: Sequence[str]) -> list[str]:
    """The names without their suffixes, for files on any drive.

    Those keep the suffix that would otherwise share a name, as `a.png` and `a.tif`; those that a drive without upper
    and lower case would still take for one, as `a.png` and `A.PNG`, get a hash; so do those that are too long.
    """
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    shared = Counter(map(_folded, stems))
    chosen = [stem if shared[_folded(stem)] == 1 else name for name, stem in zip(names, stems, strict=True)]
    if len(set(map(_folded, chosen))) < len(chosen):
        chosen = list(names)
    shared = Counter(map(_folded, chosen))
    marked = [one if shared[_folded(one)] == 1 else _marked(one) for one in chosen]
    return ["/".join(shortened(part, STEM_BYTES) for part in one.split("/")) for one in marked]


def _folded(name: str) -> str:
    """The same for names that some drives do not tell apart: by case, or by how accents are written."""
    return unicodedata.normalize("NFC", name).casefold()


def _marked(name: str) -> str:
    return f"{name}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


STEM_BYTES = NAME_BYTES - 55
"""What leaves room for the names of planes and objects, and for suffixes."""

PLANE = re.compile(r"_[a-z]+\d+$")
"""The end of `stack_z003`, the name of a plane's results."""


@dataclass(frozen=True)
class Names:
    """What images are called in the results.

    Attributes:
        tables: for each file its name in tables.
        stems: for each file the names of its results, without a suffix.
    """

    tables: dict[Path, str]
    stems: dict[Path, str]

    @classmethod
    def of(cls, paths: Sequence[Path], planes: bool) -> Names:
        """For these files, of which each plane is an image of its own if `planes`."""
        names = output_names(paths)
        stems = output_stems(names)
        if planes:  # the planes of stack.tif and the file stack_z003.png must not share a name
            stacks = {start for stem in stems for start in _starts(stem.casefold())}
            stems = [name if stem.casefold() in stacks else stem for name, stem in zip(names, stems, strict=True)]
        return cls(dict(zip(paths, names, strict=True)), dict(zip(paths, stems, strict=True)))

    def in_tables(self, path: Path, plane: str) -> str:
        """The name of an image in tables."""
        return f"{self.tables[path]}#{plane}" if plane else self.tables[path]

    def stem(self, path: Path, plane: str) -> str:
        """The name of an image's results, without a suffix."""
        return f"{self.stems[path]}_{plane}" if plane else self.stems[path]


def _starts(stem: str) -> list[str]:
    """What is left of `stack_z003_t01` without its planes: `stack_z003` and `stack`."""
    found = []
    while (shorter := PLANE.sub("", stem)) != stem:
        found.append(shorter)
        stem = shorter
    return found
