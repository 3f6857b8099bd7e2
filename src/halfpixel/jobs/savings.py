"""What first passes saved, from the facts of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from halfpixel.jobs.journal import Facts
from halfpixel.structures.instances import Search

if TYPE_CHECKING:
    from halfpixel.evaluation.prefilter_savings import Savings


def savings_of(found: Sequence[Facts]) -> Savings:
    """What was saved on all images."""
    from halfpixel.evaluation.prefilter_savings import Savings  # brings scipy, which counting does without

    return Savings.of([facts["size_hw"] for facts in found], [_search_of(facts) for facts in found])


def _search_of(facts: Facts) -> Search | None:
    """Where the network looked on an image."""
    plain = facts["search"]
    return None if plain is None else Search(**plain | {"regions_xyxy": tuple(map(tuple, plain["regions_xyxy"]))})
