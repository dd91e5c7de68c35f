"""The machine that a pickle is a program for, with nothing in it but the making of plain data.

A pickle is a list of one-byte instructions ("push this number", "make a list of what lies on the
stack") for a machine with a stack and a memo. Python's own machine also imports and calls what the
file names, and its memory follows what the file claims. This one makes numbers, texts, bytes,
lists, tuples, dictionaries and sets; a name is only ever looked up in a table of the caller's, and
what is made is counted against a :class:`vlcam.formats.budget.Budget` before it is made.

Instructions of all protocols (0 to 5) are known, as ``pickletools`` of the standard library lists
them; those for objects kept outside of the file (buffers, registered extensions) are refused.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vlcam.formats.budget import Budget
from vlcam.formats.mapped import Bytes
from vlcam.formats.pickles.keys import Keys, RefusedError
from vlcam.formats.pickles.nesting import check_nesting
from vlcam.utils.messages.expected import described

_PROTOCOL = 5  # the newest there is
_STOP = ord(".")

_STEP, _SET, _ENTRY, _MEMO, _OBJECT, _ARGUMENT = 32, 216, 70, 60, 300, 8
"""Rough bytes in memory of a value on the stack, an empty set or dictionary, an entry of one, of
the memo, an object, and an argument of a call."""

_LONGEST_NUMBER = 1024  # bytes; reading a longer one would take long
_SOMETIMES = 255  # instructions after which the clock is looked at
_REPEATED = 2**20, 4
"""What is used in several places is written out at each of them: to how many values, and how many
times as many as the file makes."""


@dataclass(frozen=True, eq=False)
class Named:
    """What stands for a class or function that a pickle names.

    Attributes:
        kind: its full name.
        make: makes what a call of it with these arguments would give; None: it is not called.
        new: makes an object of it that is not initialised; None: there are none.
    """

    kind: str
    make: Callable[..., Any] | None = None
    new: Callable[[], Any] | None = None


class Machine:
    """Runs the pickles that lie in a file one behind the other.

    Args:
        data: the file, from the first pickle on.
        budget: for all of them.
        find: gives what stands for a name of a module, or raises :class:`RefusedError`.
        refer: gives what stands for a reference out of the pickle (torch: to numbers).

    Attributes:
        at: where the next pickle begins in the data.
    """

    def __init__(
        self,
        data: Bytes,
        budget: Budget,
        find: Callable[[str, str], Named],
        refer: Callable[[Any], Any] | None = None,
    ) -> None:
        self.at = 0
        self._data, self._budget, self._find, self._refer = data, budget, find, refer
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._keys = Keys(budget)
        self._made: list[Any] = []

    def load(self) -> Any:
        """What the next pickle makes.

        Raises:
            RefusedError: it asks for what it may not have.
            ValueError, IndexError, TypeError: it is damaged.
        """
        self._stack, self._marks, self._memo, self._made = [], [], {}, []
        budget, data, steps, before = self._budget, self._data, _STEPS, self._budget.left
        done = 0
        while True:
            done += 1
            if not done & _SOMETIMES:
                budget.check_time()
            code = data[self.at]
            self.at += 1
            budget.left -= _STEP
            if budget.left < 0:
                budget.take(0)
            if code == _STOP:
                break
            step = steps.get(code)
            if step is None:
                raise ValueError(f"no instruction at byte {self.at - 1}")
            step(self)
        value = self._stack.pop()
        least, times = _REPEATED
        most = least + times * (before - budget.left) // _STEP
        # Nothing goes through an object: what it holds is a value of its own.
        check_nesting([value, *map(vars, self._made)], most)
        return value

    # --- reading

    def _take(self, count: int) -> bytes:
        """The next bytes."""
        start, self.at = self.at, self.at + count
        if not start <= self.at <= len(self._data):
            raise ValueError("it ends early")
        return self._data[start : self.at]

    def _unpack(self, form: struct.Struct) -> Any:
        return form.unpack(self._take(form.size))[0]

    def _line(self, longest: int | None = None) -> bytes:
        start = self.at
        end = self._data.find(b"\n", start, *([] if longest is None else [start + longest]))
        if end < 0:
            raise ValueError("a line without an end")
        self.at = end + 1
        return self._data[start:end]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _push_sized(self, value: Any) -> None:
        """A text or bytes: as long as the part of the file, or four times that."""
        self._budget.take(sys.getsizeof(value) - _STEP)
        self._stack.append(value)

    # --- containers

    def _to_mark(self) -> list[Any]:
        """What lies above the last mark."""
        mark = self._marks.pop()
        values = self._stack[mark:]
        del self._stack[mark:]
        return values

    def _append(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise RefusedError(f"it appends to {described(target)}")
        target.extend(values)

    def _put(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise RefusedError(f"it puts entries into {described(target)}")
        self._keys.entries(zip(values[::2], values[1::2], strict=True), target)

    def _dictionary(self, values: list[Any]) -> None:
        self._budget.take(_SET)
        self._push({})
        self._put(values)

    def _add(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, set):
            raise RefusedError(f"it adds to {described(target)}")
        target.update(self._keys.members(values))

    def _frozen(self, values: list[Any]) -> None:
        self._budget.take(_SET)
        self._push(frozenset(self._keys.members(values)))

    def _last(self, count: int) -> None:
        values = self._stack[-count:]
        if len(values) < count:
            raise ValueError("it takes what it has not made")
        self._stack[-count:] = [tuple(values)]

    # --- names, calls, objects

    def _name(self) -> None:
        module, name = (self._line().decode() for _ in range(2))
        self._find_name(module, name)

    def _find_name(self, module: str, name: str) -> None:
        self._budget.take(_OBJECT + len(module) + len(name))
        self._push(self._find(module, name))

    def _name_of_stack(self) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedError(f"it asks for {described(name)} of {described(module)}")
        self._find_name(module, name)

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        make = function.make if isinstance(function, Named) else None
        if make is None or not isinstance(arguments, tuple):
            raise RefusedError(f"it calls {_name_of(function)}")
        self._budget.take(_OBJECT + _ARGUMENT * len(arguments))
        self._push(make(*arguments))

    def _object(self, with_names: bool = False) -> None:
        """An object, uninitialised: arguments are for the class, which is not there."""
        for _ in range(2 if with_names else 1):
            self._stack.pop()
        self._push(self.new(self._stack.pop()))

    def new(self, kind: Any) -> Any:
        """An object of what a pickle named, not initialised."""
        if not isinstance(kind, Named) or kind.new is None:
            raise RefusedError(f"it makes an object of {_name_of(kind)}")
        self._budget.take(_OBJECT)
        self._made.append(kind.new())
        return self._made[-1]

    def _object_of_python_2(self) -> None:
        self._name()
        kind = self._stack.pop()
        self._to_mark()
        self._push(self.new(kind))

    def _object_of_marked(self) -> None:
        kind, *_ = self._to_mark()
        self._push(self.new(kind))

    def _state(self) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, dict):
            return  # attributes of an OrderedDict: torch's note on versions of modules
        take = getattr(target, "take_state", None)
        self._budget.take(_ENTRY * len(state) if isinstance(state, dict) else 0)
        if take is None:
            raise RefusedError(f"it sets the state of {_name_of(target)}")
        take(state)

    def _reference(self) -> None:
        saved = self._stack.pop()
        if self._refer is None:
            raise RefusedError("it refers to what is not in it")
        self._budget.take(_OBJECT)
        self._push(self._refer(saved))

    # --- memo, and the rest

    def _remember(self, index: int) -> None:
        if not 0 <= index <= len(self._data):
            raise RefusedError(f"it keeps a value as number {described(index)}")
        if index not in self._memo:
            self._budget.take(_MEMO)
        self._memo[index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"it recalls number {index}, which it has not kept")
        self._stack.append(self._memo[index])

    def _begin(self) -> None:
        protocol = self._take(1)[0]
        if protocol > _PROTOCOL:
            raise ValueError(f"of protocol {protocol}")

    def _frame(self) -> None:
        size = self._unpack(_EIGHT)
        if size > len(self._data) - self.at:
            raise ValueError("it ends early")

    def _pop(self) -> None:
        # Of a mark that lies on top, too.
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _drop(self) -> None:
        self._to_mark()

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _outside(self) -> None:
        raise ValueError("an instruction about what is not in it")


def _name_of(value: Any) -> str:
    return value.kind if isinstance(value, Named) else described(value)


# --- what the instructions do


_ONE, _TWO, _FOUR, _EIGHT = (struct.Struct(f"<{letter}") for letter in "BHIQ")
_SIGNED = struct.Struct("<i")


def _whole(data: bytes) -> int:
    if len(data) > _LONGEST_NUMBER:
        raise RefusedError(f"it has a number of {len(data)} bytes")
    return int.from_bytes(data, "little", signed=True)


def _whole_of_line(line: bytes) -> Any:
    return {b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else int(line, 0)


_ESCAPED = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.|$)", re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\", b"'": b"'", b'"': b'"',
            b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}  # fmt: skip


def _quoted(line: bytes) -> str:
    """A text as Python 2's ``repr`` wrote it."""
    line = line.strip(b" \t\r")
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a text without quotes")

    def one(found: re.Match[bytes]) -> bytes:
        told = found[1]
        if told[:1] == b"x" and len(told) == 3:
            return bytes([int(told[1:], 16)])
        if told[:1].isdigit():
            return bytes([int(told, 8) & 255])
        return _ESCAPES.get(told, b"\\" + told)

    return _ESCAPED.sub(one, line[1:-1]).decode("latin1")


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _latin1(data: bytes) -> str:  # as Python 2 wrote texts
    return data.decode("latin1")


def _always(value: Any) -> Callable[[Machine], None]:
    return lambda m: m._push(value)


def _number(form: str) -> Callable[[Machine], None]:
    packed = struct.Struct(form)
    return lambda m: m._push(m._unpack(packed))


def _counted(length: struct.Struct, read: Callable[[bytes], Any]) -> Callable[[Machine], None]:
    """A text, bytes or a number with its length before it."""
    return lambda m: m._push_sized(read(m._take(m._unpack(length))))


def _line(read: Callable[[bytes], Any], longest: int | None = None) -> Callable[[Machine], None]:
    return lambda m: m._push_sized(read(m._line(longest)))


def _empty(make: Callable[[], Any], bytes_: int) -> Callable[[Machine], None]:
    def step(m: Machine) -> None:
        m._budget.take(bytes_)
        m._push(make())

    return step


_BY_LETTER: dict[bytes, Callable[[Machine], None]] = {
    b"N": _always(None),
    b"\x88": _always(True),
    b"\x89": _always(False),
    b")": _always(()),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"I": _line(_whole_of_line, _LONGEST_NUMBER),
    b"L": _line(lambda line: int(line.removesuffix(b"L"), 0), _LONGEST_NUMBER),
    b"F": _line(float, _LONGEST_NUMBER),
    b"S": _line(_quoted),
    b"V": _line(lambda line: line.decode("raw_unicode_escape")),
    b"\x8a": _counted(_ONE, _whole),
    b"\x8b": _counted(_SIGNED, _whole),
    b"U": _counted(_ONE, _latin1),
    b"T": _counted(_SIGNED, _latin1),
    b"X": _counted(_FOUR, _utf8),
    b"\x8c": _counted(_ONE, _utf8),
    b"\x8d": _counted(_EIGHT, _utf8),
    b"C": _counted(_ONE, bytes),
    b"B": _counted(_FOUR, bytes),
    b"\x8e": _counted(_EIGHT, bytes),
    b"\x96": _counted(_EIGHT, bytes),
    b"]": _empty(list, _STEP),
    b"}": _empty(dict, _STEP),
    b"\x8f": _empty(set, _SET),
    b"(": Machine._mark,
    b"l": lambda m: m._push(m._to_mark()),
    b"t": lambda m: m._push(tuple(m._to_mark())),
    b"d": lambda m: m._dictionary(m._to_mark()),
    b"\x91": lambda m: m._frozen(m._to_mark()),
    b"\x85": lambda m: m._last(1),
    b"\x86": lambda m: m._last(2),
    b"\x87": lambda m: m._last(3),
    b"a": lambda m: m._append([m._stack.pop()]),
    b"e": lambda m: m._append(m._to_mark()),
    b"s": lambda m: m._put([m._stack.pop(-2), m._stack.pop()]),
    b"u": lambda m: m._put(m._to_mark()),
    b"\x90": lambda m: m._add(m._to_mark()),
    b"c": Machine._name,
    b"\x93": Machine._name_of_stack,
    b"R": Machine._call,
    b"\x81": Machine._object,
    b"\x92": lambda m: m._object(with_names=True),
    b"i": Machine._object_of_python_2,
    b"o": Machine._object_of_marked,
    b"b": Machine._state,
    b"Q": Machine._reference,
    b"p": lambda m: m._remember(int(m._line(_LONGEST_NUMBER))),
    b"q": lambda m: m._remember(m._unpack(_ONE)),
    b"r": lambda m: m._remember(m._unpack(_FOUR)),
    b"\x94": lambda m: m._remember(len(m._memo)),
    b"g": lambda m: m._recall(int(m._line(_LONGEST_NUMBER))),
    b"h": lambda m: m._recall(m._unpack(_ONE)),
    b"j": lambda m: m._recall(m._unpack(_FOUR)),
    b"0": Machine._pop,
    b"1": Machine._drop,
    b"2": lambda m: m._push(m._stack[-1]),
    b"\x80": Machine._begin,
    b"\x95": Machine._frame,
    **dict.fromkeys((b"P", b"\x82", b"\x83", b"\x84", b"\x97", b"\x98"), Machine._outside),
}
_STEPS = {letter[0]: step for letter, step in _BY_LETTER.items()}
