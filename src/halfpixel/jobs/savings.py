"""What first passes saved, from the facts of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from halfpixel.jobs.journal import Facts

if TYPE_CHECKING:
    from halfpixel.evaluation.prefilter_savings import Savings
    from halfpixel.structures.instances import PrefilterPass


def savings_of(found: Sequence[Facts]) -> Savings:
    """What was saved on all images."""
    from halfpixel.evaluation.prefilter_savings import Savings  # brings scipy, which counting does without

    return Savings.of([facts["size_hw"] for facts in found], [_pass_of(facts) for facts in found])


def _pass_of(facts: Facts) -> PrefilterPass | None:
    """Where the network looked on an image."""
    from halfpixel.structures.instances import PrefilterPass

    plain = facts["search"]
    return (
        None if plain is None else PrefilterPass(**plain | {"regions_xyxy": tuple(map(tuple, plain["regions_xyxy"]))})
    )
