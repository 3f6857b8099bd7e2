"""How large a pixel is, when a person and a file may disagree."""

from __future__ import annotations

from typing import NamedTuple

from halfpixel.errors import ArgumentError

SMALLEST_UM, LARGEST_UM = 0.02, 20.0
"""What microscopes and slide scanners have; beyond it is mostly a slip of units."""
ATOM_UM, COUNTRY_UM = 1e-5, 1e12
"""Nothing is seen beyond these, and areas in micrometres would be 0 or infinite."""
TOLERANCE = 0.01


class PixelSize(NamedTuple):
    """The side of a pixel, and what is to be told about it.

    Attributes:
        um: micrometres, or None if nobody knows.
        warning: one line, or "".
    """

    um: float | None
    warning: str = ""


def agree(given_um: float | None, of_file_um: float | None, force: bool = False) -> PixelSize:
    """The pixel size to measure with: the one given, else the file's.

    Args:
        given_um: what the user says, in micrometres.
        of_file_um: what the file's metadata say.
        force: take a size outside of 0.02 to 20 micrometres.

    Returns:
        The size, with a warning if both are known and differ by more than 1%.

    Raises:
        ArgumentError: a size outside of that range without `force`, or one that no pixel can have.
    """
    size = of_file_um if given_um is None else given_um
    if size is None:
        return PixelSize(None)
    whose = "the file's pixel size" if given_um is None else "the pixel size"
    if not 0 < size < float("inf"):
        raise ArgumentError(f"{whose} must be a positive number of micrometres, got {size:g}")
    if not ATOM_UM <= size <= COUNTRY_UM:
        raise ArgumentError(f"{whose}, {size:g} micrometres, is no size that a pixel can have")
    if not force and not SMALLEST_UM <= size <= LARGEST_UM:
        raise ArgumentError(
            f"{whose}, {size:g} micrometres, is outside of {SMALLEST_UM:g} to {LARGEST_UM:g}; is it in another unit? "
            "If it is right, say so with `force`"
        )
    if of_file_um is not None and abs(size - of_file_um) > TOLERANCE * of_file_um:
        return PixelSize(
            size, f"the pixel size given, {size:g} micrometres, is used; the file's metadata say {of_file_um:g}"
        )
    return PixelSize(size)
