"""Mutations of bytes and of text, each decided by a seed alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
NUMBERS = (
    b"0", b"-1", b"1", b"255", b"65535", b"4294967296", b"18446744073709551616", b"1e10", b"1e308", b"-1e308", b"1e999",
    b"NaN", b"Infinity", b"0.5", b"1e-308", b"null", b"true", b'"7"', b"[]", b"{}", b"9" * 5000,
)  # fmt: skip
STRINGS = (
    b'""', b'"\\u0000"', b'"../../../../etc/passwd"', b'"/dev/zero"', b'"a\\\\b.png"', b'"%61.png"', b'"\\ud800"',
    b"null", b"0", b"[]", b"{}", b'"' + b"n" * 4000 + b'"', b'"."', b'"\\n"', b'"http://x/y.png"',
)  # fmt: skip
LINES = (
    b"",
    b"0",
    b"0 0.5 0.5",
    b"nan nan nan nan nan nan nan",
    b"1e9 -5 7 2 2 9 9",
    b"\xff\xfe\x00",
    b"a: &a [*a, *a]",
    b"- " * 200,
)
DEEP = 20_000
LONGEST = 4_000_000
"""No mutation is longer."""


def mutated(source: bytes, rng: random.Random, choices: Sequence[Mutation]) -> bytes:
    """One to four mutations after one another."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        source = rng.choice(choices)(source, rng)[:LONGEST]
    return source


def _flip_bits(source: bytes, rng: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(rng.choice((1, 1, 2, 8, 64)) if data else 0):
        data[_place(len(data), rng)] ^= 1 << rng.randrange(8)
    return bytes(data)


def _set_bytes(source: bytes, rng: random.Random) -> bytes:
    """Whole values, of the sizes that binary formats have, at their limits."""
    size = rng.choice((1, 2, 4, 8))
    value = rng.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1, rng.randrange(2**16)))
    put = (value % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))
    at = _place(max(len(source), 1), rng)
    return source[:at] + put + source[at + size :]


def _cut_off(source: bytes, rng: random.Random) -> bytes:
    return source[: rng.randrange(len(source) + 1)]


def _remove(source: bytes, rng: random.Random) -> bytes:
    start, end = _span(source, rng)
    return source[:start] + source[end:]


def _repeat(source: bytes, rng: random.Random) -> bytes:
    start, end = _span(source, rng)
    return source[:end] + source[start:end] * rng.choice((1, 1, 2, 50)) + source[end:]


def _swap(source: bytes, rng: random.Random) -> bytes:
    """Two neighbouring parts change places."""
    a, b, c = sorted(rng.randrange(len(source) + 1) for _ in range(3))
    return source[:a] + source[b:c] + source[a:b] + source[c:]


def _insert_noise(source: bytes, rng: random.Random) -> bytes:
    at = _place(max(len(source), 1), rng)
    return source[:at] + rng.randbytes(rng.choice((1, 4, 100))) + source[at:]


def _replace_number(source: bytes, rng: random.Random) -> bytes:
    return _replace(source, NUMBER, rng.choice(NUMBERS), rng)


def _replace_string(source: bytes, rng: random.Random) -> bytes:
    return _replace(source, STRING, rng.choice(STRINGS), rng)


def _move_word(source: bytes, rng: random.Random) -> bytes:
    """A string or a number where another one was."""
    kind = rng.choice((NUMBER, STRING))
    words = kind.findall(source[:200_000])
    return _replace(source, rng.choice((NUMBER, STRING)), rng.choice(words), rng) if words else source


def _replace_line(source: bytes, rng: random.Random) -> bytes:
    lines = source.split(b"\n")
    lines[rng.randrange(len(lines))] = rng.choice(LINES)
    return b"\n".join(lines)


def _nest(source: bytes, rng: random.Random) -> bytes:
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return _replace(source, rng.choice((NUMBER, STRING)), opening * DEEP + b"0" + closing * DEEP, rng)


def _encode_otherwise(source: bytes, rng: random.Random) -> bytes:
    text = source.decode("utf-8", "replace")
    return rng.choice(
        (text.encode("utf-16"), b"\xef\xbb\xbf" + source, text.encode("latin-1", "replace"), source + b"\0")
    )


def _replace(source: bytes, kind: re.Pattern[bytes], by: bytes, rng: random.Random) -> bytes:
    found = list(kind.finditer(source))
    if not found:
        return source
    one = rng.choice(found)
    return source[: one.start()] + by + source[one.end() :]


def _span(source: bytes, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(len(source) + 1)
    return start, min(start + rng.choice((1, 4, 16, 256, 4096)), len(source))


def _place(length: int, rng: random.Random) -> int:
    """Headers decide more than pixels do: every other place is among the first 512."""
    return rng.randrange(min(length, 512) if rng.random() < 0.5 else length)


Mutation = Callable[[bytes, random.Random], bytes]
ANY: tuple[Mutation, ...] = (_flip_bits, _set_bytes, _cut_off, _remove, _repeat, _swap, _insert_noise)
VALUES: tuple[Mutation, ...] = (_replace_number, _replace_string, _move_word)
"""What leaves a text well formed, mostly."""
TEXT: tuple[Mutation, ...] = (*VALUES, *VALUES, _replace_line, _nest, _encode_otherwise)
