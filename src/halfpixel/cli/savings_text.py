"""Says what a first pass saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halfpixel.cli.console import say
from halfpixel.jobs.wording import plural

if TYPE_CHECKING:
    from halfpixel.evaluation.prefilter_savings import Savings


def explain_savings(first_pass: str, savings: Savings) -> None:
    """Say where the network looked, and about how much time that saved."""
    images = plural(savings.n_images, "image")
    if savings.n_everywhere == savings.n_images:
        say(f"First pass {first_pass}: something everywhere on {images}; the network looked at all, no time was saved.")
        return
    share = savings.looked_at_px / savings.area_px
    text = f"First pass {first_pass}: the network looked at {share:.1%} of the area"
    if savings.seconds_saved is None:
        text += "; how much time that saved is not known"
    elif savings.seconds_saved < 0:
        text += f", which cost about {_time(-savings.seconds_saved)} more than it saved"
    else:
        alone = savings.seconds + savings.seconds_saved
        text += f", which saved about {_time(savings.seconds_saved)} of {_time(alone)}"
    say(f"{text}.")
    if savings.n_everywhere:
        say(f"  {savings.n_everywhere:,} of {images} had something everywhere: looked at whole, no time saved on them.")


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:,.1f} min"
