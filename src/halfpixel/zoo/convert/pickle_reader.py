"""Pickles of numpy arrays, read without unpickling: nothing in a file is ever imported or called.

Detectron2 publishes its weights as pickles, and a pickle is a program: the usual reader runs whatever it says. This one
follows the instructions by itself and knows only those that make dicts, lists, tuples, text, bytes, numbers and arrays
of numbers. The few functions that numpy's pickles call are known by name and done here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ModelFileError

LARGEST_BYTES = 8 << 30
MOST_OPERATIONS = 1 << 21
"""A file of weights has some ten thousand. One byte can make an object of sixty."""

DEEPEST = 100
"""What comes after may go down by recursion."""

LARGEST_KEY = 1 << 32
"""Greater numbers could be made so that a dict finds none of them quickly."""

TYPE_CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})

NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
TEXT = {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
CONTENT = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PUSHED = NUMBERS | TEXT | CONTENT | set(CONSTANTS)
"""Operations that put a value on the stack."""


class _RefusedError(Exception):
    """Why a pickle is not read."""


@dataclass(frozen=True)
class _Name:
    """Of a function or class in a pickle."""

    text: str


@dataclass(eq=False)
class _Type:
    """A number's, made in two steps."""

    code: str
    order: Literal["<", ">", "=", "|"] = "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(self.order)


@dataclass(eq=False)
class _Array:
    """One that has been asked for and may have got its values."""

    values: npt.NDArray[Any] | None = None


def read_pickle(path: Path) -> Any:
    """What a pickle of dicts, lists, tuples, text, bytes, numbers and numpy arrays holds, of any protocol.

    Ordered dicts become dicts, and byte arrays bytes. Arrays are read-only.

    Raises:
        ModelFileError: not a pickle, or there is something else in it. The message names the operation, and what it
            wanted to call. Nothing was run.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    if (size := path.stat().st_size) > LARGEST_BYTES:
        raise ModelFileError(f"{path}: {size:,} bytes, expected at most {LARGEST_BYTES:,}")
    return parse_pickle(path.read_bytes(), path)


def parse_pickle(data: bytes, path: Path) -> Any:
    """The same of bytes in memory; `path` is for messages.

    Raises:
        ModelFileError: see `read_pickle`.
    """
    machine, doing = _Machine(len(data)), "at its start"
    try:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            doing = f"{opcode.name} at byte {position}"
            if count >= MOST_OPERATIONS:
                raise _RefusedError(f"there are more than {MOST_OPERATIONS:,} operations")
            machine.step(opcode.name, argument)
        return _plain(machine.top(), len(data))
    except _RefusedError as error:
        raise ModelFileError(f"{path}: not a pickle of arrays alone: {doing}: {error}; nothing was run") from error
    except (ValueError, IndexError, Warning) as error:  # the module that splits pickles into operations warns as well
        raise ModelFileError(f"{path}: not a pickle, or a damaged one: {doing}: {error!s:.200}") from error


class _Machine:
    """The stack and the memo that a pickle works with, and how many bytes it may still make of texts."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one operation."""
        if name in PUSHED:
            self.push(CONSTANTS.get(name, bytes(argument) if isinstance(argument, bytearray) else argument))
        elif name in OPERATIONS:
            OPERATIONS[name](self, argument)
        else:
            raise _RefusedError(_meaning(name, argument, self.stack))

    def top(self) -> Any:
        if not self.stack:
            raise _RefusedError("there is nothing on the stack")
        return self.stack[-1]

    def pop(self) -> Any:
        top = self.top()
        del self.stack[-1]
        return top

    def popped(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise _RefusedError("there is too little on the stack")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        return items

    def to_mark(self) -> list[Any]:
        if not self.below:
            raise _RefusedError("there is no mark")
        items, self.stack = self.stack, self.below.pop()
        return items

    def discard_to_mark(self) -> None:
        self.to_mark()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def discard(self) -> None:
        """The top, or a mark."""
        if self.stack:
            del self.stack[-1]
        else:
            self.to_mark()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise _RefusedError(f"nothing was remembered as {index}")
        known = self.memo[index]
        self.push(known.values if isinstance(known, _Array) and known.values is not None else known)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def append(self, items: list[Any]) -> None:
        if type(self.top()) is not list:
            raise _RefusedError(f"it appends to a {type(self.top()).__name__}")
        self.top().extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.top()) is not dict:
            raise _RefusedError(f"it sets an item of a {type(self.top()).__name__}")
        self.top().update(_pairs(items))

    def encoded(self, text: str) -> bytes:
        """The bytes that a text stands for; each text is in the file, so all of them are no more than that."""
        self.most_bytes -= len(text)
        if self.most_bytes < 0:
            raise _RefusedError("its texts make more bytes than the file")
        return text.encode("latin1")

    def reduce(self) -> None:
        function, arguments = self.popped(2)
        if not isinstance(function, _Name):
            raise _RefusedError(f"it wants to call a {type(function).__name__}")
        if type(arguments) is not tuple:
            raise _RefusedError(f"it wants to call {function.text} with a {type(arguments).__name__}")
        self.push(_called(function.text, arguments, self.encoded))

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if isinstance(target, _Type):
            target.order = _order(state)
        elif isinstance(target, _Array) and target.values is None:
            if type(state) is not tuple or len(state) != 5:
                raise _RefusedError("an array's state is not one")
            _, shape, kind, columns_first, content = state
            content = self.encoded(content) if isinstance(content, str) else content  # Python 2
            target.values = _array(content, kind, shape, "F" if columns_first is True or columns_first == 1 else "C")
            self.stack[-1] = target.values
        elif type(target) is dict and type(state) is dict and set(state) <= {"_metadata"}:
            pass  # what torch tells of the versions of modules
        else:
            raise _RefusedError(f"it wants to set the state of a {_kind(target)}")


OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _, __: None,
    "FRAME": lambda _, __: None,
    "STOP": lambda _, __: None,
    "MARK": lambda m, _: m.mark(),
    "POP": lambda m, _: m.discard(),
    "POP_MARK": lambda m, _: m.discard_to_mark(),
    "DUP": lambda m, _: m.push(m.top()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.to_mark()),
    "APPEND": lambda m, _: m.append([m.pop()]),
    "APPENDS": lambda m, _: m.append(m.to_mark()),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE": lambda m, _: m.push(tuple(m.to_mark())),
    "TUPLE1": lambda m, _: m.push(m.popped(1)),
    "TUPLE2": lambda m, _: m.push(m.popped(2)),
    "TUPLE3": lambda m, _: m.push(m.popped(3)),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push(_pairs(m.to_mark())),
    "SETITEM": lambda m, _: m.set_items(list(m.popped(2))),
    "SETITEMS": lambda m, _: m.set_items(m.to_mark()),
    "GET": lambda m, index: m.recall(index),
    "BINGET": lambda m, index: m.recall(index),
    "LONG_BINGET": lambda m, index: m.recall(index),
    "PUT": lambda m, index: m.remember(index),
    "BINPUT": lambda m, index: m.remember(index),
    "LONG_BINPUT": lambda m, index: m.remember(index),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "GLOBAL": lambda m, names: m.push(_named(*names.split(" ", 1))),
    "STACK_GLOBAL": lambda m, _: m.push(_named(*m.popped(2))),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
}
"""All that is done, by name. Persistent ids, the extension registry, objects and buffers elsewhere are not."""


def _meaning(name: str, argument: Any, stack: list[Any]) -> str:
    """What an operation that is not done would have done."""
    wanted = f" {argument!s:.100}" if argument is not None else f" with {_shown(stack[-1])}" if stack else ""
    return f"it makes something else{wanted}"


def _kind(value: Any) -> str:
    return value.text if isinstance(value, _Name) else type(value).__name__.lstrip("_").lower()


def _shown(value: Any) -> str:
    """A little of it: all of it may have no end."""
    if isinstance(value, tuple):
        return f"({', '.join(_shown(one) if not isinstance(one, tuple) else '...' for one in value[:5])})"
    return f"{value!r:.60}" if isinstance(value, str | bytes | int | float) else _kind(value)


# Names


def _in_modules(prefixes: tuple[str, ...], name: str) -> set[str]:
    return {f"{prefix}.{name}" for prefix in prefixes}


RECONSTRUCT = _in_modules(("numpy.core.multiarray", "numpy._core.multiarray"), "_reconstruct")
FROM_BUFFER = _in_modules(("numpy.core.numeric", "numpy._core.numeric"), "_frombuffer")
SCALAR = _in_modules(("numpy.core.multiarray", "numpy._core.multiarray"), "scalar")
BYTES = _in_modules(("builtins", "__builtin__"), "bytes")
KNOWN = {"numpy.ndarray", "numpy.dtype", "_codecs.encode", "collections.OrderedDict"}
KNOWN |= RECONSTRUCT | FROM_BUFFER | SCALAR | BYTES


def _named(module: Any, name: Any) -> _Name:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise _RefusedError("it wants something whose name is no text")
    if (text := f"{module}.{name}") not in KNOWN:
        raise _RefusedError(f"it wants to call {text:.200}")
    return _Name(text)


def _called(name: str, arguments: tuple[Any, ...], encoded: Callable[[str], bytes]) -> Any:
    """What a function of numpy's pickles gives."""
    if name in RECONSTRUCT and arguments[:1] == (_Name("numpy.ndarray"),):
        return _Array()
    if name == "numpy.dtype" and arguments and isinstance(arguments[0], str) and arguments[0] in TYPE_CODES:
        return _Type(arguments[0])
    if name in FROM_BUFFER and len(arguments) == 4 and arguments[3] in ("C", "F"):
        return _array(arguments[0], arguments[1], arguments[2], arguments[3])
    if name in SCALAR and len(arguments) == 2:
        content = encoded(arguments[1]) if isinstance(arguments[1], str) else arguments[1]
        return _array(content, arguments[0], (), "C")[()]
    if name == "_codecs.encode" and len(arguments) == 2 and arguments[1] == "latin1" and isinstance(arguments[0], str):
        return encoded(arguments[0])
    if name in BYTES and not arguments:
        return b""
    if name == "collections.OrderedDict" and not arguments:
        return {}
    raise _RefusedError(f"it wants to call {name} with {_shown(arguments)}")


def _order(state: Any) -> Literal["<", ">", "=", "|"]:
    if type(state) is not tuple or len(state) < 5 or state[1] not in ("<", ">", "=", "|") or state[4] is not None:
        raise _RefusedError("a type of numbers has a state that is none")
    order: Literal["<", ">", "=", "|"] = state[1]
    return order


def _array(content: Any, kind: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    """No larger than its content, which stays where it is."""
    if not isinstance(kind, _Type):
        raise _RefusedError(f"it wants an array of {_kind(kind)}")
    sides = shape if type(shape) is tuple else None
    if sides is None or len(sides) > 32 or not all(type(one) is int and 0 <= one < 1 << 40 for one in sides):
        raise _RefusedError(f"{_shown(shape)} is the shape of no array")
    if not isinstance(content, bytes):
        raise _RefusedError(f"the content of an array is a {_kind(content)}")
    dtype, cells = kind.dtype(), 1
    for side in sides:
        cells *= side
    if cells * dtype.itemsize != len(content):
        raise _RefusedError(f"an array of shape {_shown(sides)} has {len(content)} bytes")
    made = np.frombuffer(content, dtype)
    return made.reshape(sides, order="F" if order == "F" else "C")


# What it comes to


def _pairs(items: list[Any]) -> dict[Any, Any]:
    if len(items) % 2:
        raise _RefusedError("a dict has a key without a value")
    for key in items[::2]:
        if not (isinstance(key, str | bytes) or (type(key) in (int, bool) and abs(key) < LARGEST_KEY)):
            raise _RefusedError(f"the key of a dict is a {_kind(key)}")
    return dict(zip(items[::2], items[1::2], strict=True))


def _plain(result: Any, most_bytes: int) -> Any:
    """Refuse a result in which names, or arrays without values, are left, or whose arrays share what they hold.

    They are views, and each becomes a tensor of its own: a small file could fill the memory.
    """
    waiting, seen = [(result, 0)], set[int]()
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, _Name | _Type | _Array):
            raise _RefusedError(f"{_kind(value)} is left over")
        if isinstance(value, np.ndarray):
            most_bytes -= value.nbytes
            if most_bytes < 0:
                raise _RefusedError("its arrays hold more bytes than the file")
        if isinstance(value, dict | list | tuple) and id(value) not in seen:
            if depth == DEEPEST:
                raise _RefusedError(f"it nests more than {DEEPEST} levels deep")
            seen.add(id(value))
            waiting.extend((one, depth + 1) for one in (value.values() if isinstance(value, dict) else value))
    return result
