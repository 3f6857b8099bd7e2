"""Pickles without unpickling: Python's own pickle is the oracle, and what it would run is never run."""

import collections
import contextlib
import copyreg
import io
import os
import pickle
import pickletools
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halfpixel.errors import ModelFileError
from halfpixel.zoo.convert.pickle_reader import parse_pickle, read_pickle

FILE = Path("weights.pkl")


def contents() -> dict[str, Any]:
    """Everything that is allowed."""
    rng = np.random.default_rng(0)
    kinds = "?", "i1", "<i2", ">i4", "<i8", "u1", "<u4", ">f4", "<f2", "<f4", "<f8", "<c8", "<c16"
    shared = rng.standard_normal((3, 4)).astype("f4")
    plain = [1, -7, 2**40, -(2**80), 1.5, float("inf"), True, False, None, "Büro", "", b"\x00\xff", b"", (), (1,), []]
    return {
        "model": {
            **{f"kind {kind}": (100 * rng.standard_normal((2, 3))).astype(kind) for kind in kinds},
            "columns first": np.asfortranarray(rng.standard_normal((4, 5))),
            "a number": np.array(3.5),
            "none": np.zeros((0, 3), np.float32),
            "large": rng.standard_normal(70_000),
            "again": [shared, shared],
        },
        "scalars": [np.float32(2.5), np.int64(-3), np.bool_(True)],
        "__author__": "Detectron2 Model Zoo",
        "plain": plain,
        "nested": {"a": {"b": [{"c": (1, (2, (3, [4])))}]}, 5: "five"},
        "ordered": collections.OrderedDict([("z", 1), ("a", np.arange(3))]),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(b, np.ndarray | np.generic):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


@pytest.mark.parametrize("protocol", range(6))
def test_what_python_writes_reads_back_bit_for_bit(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(contents(), protocol))
    found = read_pickle(path)
    assert same(found, contents())
    assert found["model"]["again"][0] is found["model"]["again"][1]
    assert type(found["ordered"]) is dict


def test_python_s_writer_in_python_and_an_ordered_state_dict() -> None:
    with io.BytesIO() as file:
        pickle._Pickler(file, 2).dump(contents())  # type: ignore[attr-defined]
        assert same(parse_pickle(file.getvalue(), FILE), contents())
    state = torch.nn.Linear(2, 2).state_dict()
    arrays = collections.OrderedDict((name, tensor.numpy()) for name, tensor in state.items())
    arrays._metadata = state._metadata  # type: ignore[attr-defined]
    assert list(parse_pickle(pickle.dumps(arrays), FILE)) == ["weight", "bias"]


def test_a_file_of_python_2() -> None:
    """An array as numpy wrote it there, its content being text of single bytes."""
    text = b"".join(
        [
            b"\x80\x02}q\x01U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
            b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff",
            b"K\x00tb\x89U\x08" + np.array([1.5, -2], "<f4").tobytes() + b"tbs.",
        ]
    )
    assert same(pickle.loads(text, encoding="latin1")["w"], np.array([1.5, -2], "f4"))
    assert same(parse_pickle(text, FILE)["w"], np.array([1.5, -2], "<f4"))


class Evil:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Plain:
    pass


HOSTILE = {
    "system": (Evil(os.system, "touch ran"), "posix.system"),
    "eval": (Evil(eval, "open('ran', 'w')"), "builtins.eval"),
    "nested": ({"model": {"w": [1, (2, Evil(os.mkdir, "ran"))]}}, "posix.mkdir"),
    "in a state": ({"model": np.array([Evil(os.mkdir, "ran")], dtype=object)}, "posix.mkdir|array of objects|content"),
    "getattr": (Evil(getattr, "ran", "upper"), "builtins.getattr"),
    "an object": ({"w": Plain()}, "Plain|_reconstructor"),
    "a set": ({"w": {1, 2}}, "set|something else"),
    "a tensor": ({"w": torch.zeros(2)}, "torch"),
    "a class": ({"w": Path}, "Path"),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused(name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, wanted = HOSTILE[name]
    data = pickle.dumps(content, protocol)
    with pytest.raises(ModelFileError, match=rf"weights\.pkl: .* at byte \d+: .*({wanted}|wants).*nothing was run"):
        parse_pickle(data, FILE)
    assert not list(tmp_path.iterdir())


def forged(*parts: bytes) -> bytes:
    return b"".join(parts)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
FLOAT = b"cnumpy\ndtype\n(\x8c\x02f4\x89\x88tR"
FORGED = {
    "a call from the memo": (b"cposix\nsystem\nq\x000h\x00(\x8c\x04true tR.", "GLOBAL.*posix.system"),
    "a name built on the stack": (b"\x8c\x05posix\x8c\x06system\x93.", "STACK_GLOBAL.*posix.system"),
    "a name that is a number": (b"K\x01K\x02\x93.", "STACK_GLOBAL.*no text"),
    "inst": (b"(\x8c\x04trueiposix\nsystem\n.", "INST.*posix system"),
    "obj": (b"(cnumpy\ndtype\n\x8c\x02f4o.", "OBJ.*something else"),
    "newobj": (b"cnumpy\ndtype\n)\x81.", "NEWOBJ"),
    "a persistent id": (b"Psecret\n.", "PERSID.*secret"),
    "a persistent id on the stack": (b"\x8c\x06secretQ.", "BINPERSID.*secret"),
    "the registry of extensions": (b"\x82\x01.", "EXT1"),
    "a buffer elsewhere": (b"\x97.", "NEXT_BUFFER"),
    "a call of text": (b"\x8c\x01a)R.", "REDUCE.*call a str"),
    "numpy's own names called otherwise": (b"cnumpy\nndarray\n(K\x05tR.", "REDUCE.*numpy.ndarray"),
    "a name in a name": (b"cnumpy\ndtype.type\n.", "GLOBAL.*numpy.dtype.type"),
    "a name left over": (b"cnumpy\ndtype\n.", "left over|numpy.dtype"),
    "an array left over": (ARRAY + b".", "array is left over"),
    "an array of objects": (b"cnumpy\ndtype\n(\x8c\x02O8\x89\x88tR.", "REDUCE.*numpy.dtype"),
    "an array of text": (b"cnumpy\ndtype\n(\x8c\x0aU999999999\x89\x88tR.", "REDUCE.*numpy.dtype"),
    "more cells than bytes": (
        ARRAY + b"(K\x01(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft" + FLOAT + b"\x89C\x041234tb.",
        "shape.*has 4 bytes",
    ),
    "a negative side": (ARRAY + b"(K\x01(J\xff\xff\xff\xfft" + FLOAT + b"\x89C\x00tb.", "shape of no array"),
    "a state for text": (b"\x8c\x01a}b.", "BUILD.*str"),
    "a state twice": (
        ARRAY + 2 * (b"(K\x01(K\x01t" + FLOAT + b"\x89C\x041234tb") + b".",
        "BUILD.*ndarray",
    ),
    "a list as a key": (b"}]K\x01s.", "SETITEM.*key.*list"),
    "a number made to collide": (b"}\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00K\x01s.", "SETITEM.*key"),
    "a key without a value": (b"}(K\x01u.", "SETITEMS.*without a value"),
    "nothing": (b".", "nothing on the stack"),
    "no mark": (b"t.", "no mark"),
    "nothing remembered": (b"h\x05.", "remembered as 5"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(name: str) -> None:
    data, message = FORGED[name]
    with pytest.raises(ModelFileError, match=message):
        parse_pickle(data, FILE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle at all",
        b"\x89PNG\r\n\x1a\n",
        b"\x80\x63.",
        b"\x80\x04\x95" + b"\xff" * 8,
        b"B" + struct.pack("<I", 0xFFFFFFFF) + b"abc",
        b"\x8e" + struct.pack("<Q", 2**63 - 1) + b"abc",
        b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"abc",
        b"\x8b" + struct.pack("<i", -5),
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc",
        b"S'\\z'\n.",
        b"I" + b"9" * 100_000 + b"\n.",
    ],
)
def test_broken_files_and_huge_lengths(data: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"weights\.pkl: not a pickle"):
        parse_pickle(data, FILE)


def test_truncated_anywhere() -> None:
    data = pickle.dumps({"model": {"w": np.arange(6.0)}, "n": [1, "b"]}, 2)
    for length in range(len(data)):
        with pytest.raises(ModelFileError):
            parse_pickle(data[:length], FILE)


def test_a_small_file_eats_neither_memory_nor_time() -> None:
    began = time.perf_counter()
    doubled = b"]q\x00" + b"".join(b"]r%s(j%sj%se" % (_4(k + 1), _4(k), _4(k)) for k in range(90)) + b"."
    assert len(parse_pickle(doubled, FILE)) == 2  # its leaves are 2 to the power of 90
    for shown in (b"cnumpy\ndtype\n" + doubled[:-1] + b"\x85R.", doubled[:-1] + b"\x81.", ARRAY + doubled[:-1] + b"b."):
        with pytest.raises(ModelFileError, match="list"):
            parse_pickle(shown, FILE)
    with pytest.raises(ModelFileError, match="levels deep"):
        parse_pickle(b"(" * 5_000 + b"t" * 5_000 + b".", FILE)
    itself = b"]q\x00h\x00a."
    found = parse_pickle(itself, FILE)
    assert found[0] is found
    with pytest.raises(ModelFileError, match="operations"):
        parse_pickle(b"]" * 3_000_000 + b".", FILE)
    assert time.perf_counter() - began < 60


def _4(number: int) -> bytes:
    return struct.pack("<I", number)


def test_the_registry_of_extensions_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg._inverted_registry, 1, ("posix", "system"))  # type: ignore[attr-defined]
    with pytest.raises(ModelFileError, match="EXT1"):
        parse_pickle(b"\x82\x01(\x8c\x04truetR.", FILE)


def test_mutations() -> None:
    """Whatever is read is plain, whatever is not is refused by name, and nothing takes long."""
    rng = np.random.default_rng(0)
    small = {"model": {"w": np.arange(4, dtype="f4"), "b": [1, 2.5, "x", b"y"]}, "z": (None, True)}
    originals = [pickle.dumps(small, protocol) for protocol in range(6)]
    codes = [op.code.encode("latin1") for op in pickletools.opcodes]
    read, began = 0, time.perf_counter()
    for k in range(4_000):
        data = bytearray(originals[k % 6])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(data)))
            kind = rng.integers(4)
            if kind == 0:
                data[at] = rng.integers(256)
            elif kind == 1:
                data[at : at + 1] = codes[rng.integers(len(codes))]
            elif kind == 2:
                data[at:at] = codes[rng.integers(len(codes))]
            else:
                del data[at : at + int(rng.integers(1, 5))]
        with contextlib.suppress(ModelFileError):
            found = parse_pickle(bytes(data), FILE)
            read += 1
            assert isinstance(found, dict | list | tuple | str | bytes | int | float | None | np.ndarray | np.generic)
    assert read > 50
    assert time.perf_counter() - began < 60


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        read_pickle(tmp_path / "absent.pkl")


def test_arrays_that_share_what_they_hold() -> None:
    """Each of them would become a tensor of its own: a small file could fill the memory."""
    block = bytes(10_000)

    class View:
        def __reduce__(self) -> tuple[Any, ...]:
            state = (1, (len(block),), np.dtype("u1"), False, block)
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    assert len(parse_pickle(pickle.dumps({"a": View()}, 2), FILE)["a"]) == len(block)
    forged = pickle.dumps({str(k): View() for k in range(30)}, 2)
    assert len(forged) < 2 * len(block)
    with pytest.raises(ModelFileError, match="hold more bytes than the file"):
        parse_pickle(forged, FILE)


def test_texts_that_are_encoded_again_and_again() -> None:
    """Each time is a copy: a small file could fill the memory."""
    content = b"x" * 100_000
    once = pickle.dumps({"a": content, "b": content[::2], "c": b""}, 2)
    assert b"_codecs" in once
    assert same(parse_pickle(once, FILE), {"a": content, "b": content[::2], "c": b""})
    many = b"](c_codecs\nencode\nq\x01X" + _4(len(content)) + content + b"q\x02U\x06latin1q\x03\x86q\x04R"
    with pytest.raises(
        ModelFileError, match=r"REDUCE at byte .* its texts make more bytes than the file; nothing was run"
    ):
        parse_pickle(many + b"h\x01h\x04R" * 400 + b"e.", FILE)
    array = ARRAY + b"(K\x01(J" + _4(len(content) // 4) + b"t" + FLOAT + b"\x89h\x05tb"  # as Python 2 wrote them
    text = b"X" + _4(len(content)) + content + b"q\x050"
    assert len(parse_pickle(text + array + b".", FILE)) == len(content) // 4
    with pytest.raises(ModelFileError, match=r"BUILD at byte .* its texts make more bytes than the file"):
        parse_pickle(text + b"](" + array * 2 + b"e.", FILE)
    scalar = b"cnumpy.core.multiarray\nscalar\n" + FLOAT + b"X" + _4(4) + b"\0\0\0\0\x86R."
    assert parse_pickle(scalar, FILE) == 0
