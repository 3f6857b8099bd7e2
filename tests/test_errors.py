"""What other libraries say is quoted in a way that a terminal and the command line can show."""

import pytest

from halfpixel.errors import LONGEST_REASON, reason


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain", "plain"),
        ("  first\n\n  second ", "first second"),
        ("two \x1b[1mbold\x1b[0m words", "two bold words"),
        ("set `weights_only` or ``weights_only``", "set 'weights_only' or 'weights_only'"),
        ("a\x00b\x1b]0;title\x07c", "a b ]0;title c"),
        ("Exceeds the limit; use sys.set_int_max_str_digits() to increase the limit", "Exceeds the limit"),
        ("", "ValueError"),
        (" \n ", "ValueError"),
    ],
)
def test_a_reason_is_plain(text: str, quoted: str) -> None:
    assert reason(ValueError(text)) == quoted


def test_the_last_line_alone_and_no_more_than_fits() -> None:
    assert reason(ValueError("in a.cpp:\nin b.cpp:\nno memory\n"), last_line=True) == "no memory"
    assert reason(ValueError("\n"), last_line=True) == "ValueError"
    assert reason(ValueError("a" * 1000)) == "a" * LONGEST_REASON + "..."
