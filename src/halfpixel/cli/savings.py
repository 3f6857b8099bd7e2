"""What the verbs with `--first-pass` share: opening both models, and saying what the first pass saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from halfpixel.cli.console import model_digest, open_model, plural, say
from halfpixel.cli.speed_options import AS_USUAL, SpeedOptions
from halfpixel.errors import ArgumentError
from halfpixel.jobs.journal import Facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.prefilter_savings import Savings
    from halfpixel.structures.instances import Search


def open_both(model: str, first_pass: str | None, speed: SpeedOptions = AS_USUAL) -> Predictor:
    """A model that looks only where another one, if there is one, sees something in the reduced image.

    Raises:
        ArgumentError: the two do not go together, or the model cannot be run as wanted.
        MissingDependencyError: what is to run it is not installed.
    """
    predictor = speed.apply(open_model(model))
    if first_pass is None:
        return predictor
    try:
        return predictor.with_first_pass(open_model(first_pass))
    except ArgumentError as error:
        raise ArgumentError(f"--first-pass {first_pass}: {error}") from error


def for_resuming(first_pass: str | None) -> dict[str, object]:
    """What a resumed run must have in common with the one before."""
    return {"first pass (SHA-256)": None if first_pass is None else model_digest(first_pass)}


def search_of(facts: Facts) -> Search | None:
    """Where the network looked on an image, from its facts."""
    from halfpixel.structures.instances import Search

    plain = facts["search"]
    return None if plain is None else Search(**plain | {"regions_xyxy": tuple(map(tuple, plain["regions_xyxy"]))})


def savings_of(found: Sequence[Facts]) -> Savings:
    """What was saved on all images."""
    from halfpixel.evaluation.prefilter_savings import Savings

    return Savings.of([facts["size_hw"] for facts in found], [search_of(facts) for facts in found])


def savings_json(first_pass: str, savings: Savings) -> dict[str, Any]:
    """The twin of `explain_savings`."""
    return {"model": first_pass, **asdict(savings)}


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
