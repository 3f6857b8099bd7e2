"""What images are called in results, on drives of all kinds."""

import os
import unicodedata

from halfpixel.jobs.image_names import output_stems


def test_names_that_differ_in_case_alone() -> None:
    stems = output_stems(["a.png", "A.PNG", "b.png"])
    assert len({stem.casefold() for stem in stems}) == 3
    assert stems[2] == "b.png"  # as all that had to keep their suffixes
    assert stems[0].startswith("a.png~")
    assert stems == output_stems(["a.png", "A.PNG", "b.png"])


def test_names_that_differ_in_how_an_accent_is_written() -> None:
    composed, decomposed = (unicodedata.normalize(form, "zellwände.png") for form in ("NFC", "NFD"))
    assert composed != decomposed
    stems = output_stems([composed, decomposed])
    assert len({unicodedata.normalize("NFC", stem) for stem in stems}) == 2


def test_long_names_leave_room_for_what_is_added() -> None:
    names = ["m" * 250 + ".png", "m" * 251 + ".png", "ü" * 120 + "/" + "ü" * 125 + ".tif", "short.png"]
    stems = output_stems(names)
    assert len(set(stems)) == 4
    assert stems[3] == "short"
    for stem in stems:
        assert all(len(os.fsencode(part)) <= 200 for part in stem.split("/"))
    assert stems[2].split("/")[0].startswith("ü" * 90)
