"""What was found wrong with a data set: issues by kind, and the data set in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpixel.data.checks.issue_kinds import Severity
from halfpixel.data.dataset import Issue

EXAMPLES = 5
"""Of each kind, this many issues are written to JSON."""


@dataclass(frozen=True)
class IssueGroup:
    """All issues of one kind.

    Attributes:
        kind: what sort, in `snake_case`; one of `KINDS`, or a reader's own.
        severity: how bad it is.
        what: what was found, for people; with the number of issues before it, it reads as a phrase.
        advice: what to do about it.
        issues: each of them, in the order of the images.
    """

    kind: str
    severity: Severity
    what: str
    advice: str
    issues: tuple[Issue, ...]

    @property
    def n(self) -> int:
        """How many."""
        return len(self.issues)

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the first few issues."""
        examples = [{"path": str(one.path), "where": one.where, "what": one.what} for one in self.issues[:EXAMPLES]]
        facts = {"kind": self.kind, "severity": self.severity, "n": self.n, "what": self.what, "advice": self.advice}
        return facts | {"examples": examples}


@dataclass(frozen=True)
class Summary:
    """A data set in numbers.

    Attributes:
        n_images: images.
        n_objects: objects, crowd regions left out.
        class_counts: objects of each class.
        objects_per_image: least, median and most; None without images.
        side_px: 5, 50 and 95% quantiles of the square root of the masks' areas; None without objects.
        side_at_input_px: the same as the network sees them; None where no input scale was given.
        image_sizes_hw: the smallest and the largest image by area, as annotated; None without images.
    """

    n_images: int
    n_objects: int
    class_counts: Mapping[str, int]
    objects_per_image: tuple[float, float, float] | None
    side_px: tuple[float, float, float] | None
    side_at_input_px: tuple[float, float, float] | None
    image_sizes_hw: tuple[tuple[int, int], tuple[int, int]] | None


@dataclass(frozen=True)
class DatasetCheck:
    """All that was found in a data set, the worst first.

    Attributes:
        data: the file or folder.
        summary: the data set in numbers.
        groups: what is wrong or worth knowing, by kind; empty when there is nothing to say.
    """

    data: Path
    summary: Summary
    groups: tuple[IssueGroup, ...]

    def count(self, severity: Severity) -> int:
        """Kinds of issues of one severity."""
        return sum(one.severity == severity for one in self.groups)

    @property
    def healthy(self) -> bool:
        """Whether there is nothing above a note."""
        return all(one.severity == "note" for one in self.groups)

    def worst_images(self) -> list[tuple[Path, list[tuple[IssueGroup, list[Issue]]]]]:
        """The images with errors and warnings, those with most issues first, each with its issues by kind."""
        by_image: dict[Path, dict[int, list[Issue]]] = {}
        for k, group in enumerate(self.groups):
            for issue in group.issues if group.severity != "note" else ():
                if issue.image is not None:
                    by_image.setdefault(issue.image, {}).setdefault(k, []).append(issue)
        grouped = [(image, [(self.groups[k], some) for k, some in found.items()]) for image, found in by_image.items()]
        return sorted(grouped, key=lambda one: -sum(len(some) for _, some in one[1]))

    def to_json(self) -> dict[str, Any]:
        """As plain values, for machines."""
        severities: tuple[Severity, ...] = ("error", "warning", "note")
        counts = {severity: self.count(severity) for severity in severities}
        issues = [one.to_json() for one in self.groups]
        return {
            "data": str(self.data),
            "healthy": self.healthy,
            "n_issues": counts,
            "n_findings": counts,  # the old name, for one version
            "summary": {key: _as_lists(value) for key, value in vars(self.summary).items()},
            "issues": issues,
            "findings": issues,  # the old name, for one version
        }


def _as_lists(value: object) -> object:
    return [_as_lists(one) for one in value] if isinstance(value, tuple) else value
