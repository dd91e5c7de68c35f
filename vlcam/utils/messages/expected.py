"""What a file holds in the place of what was expected, said in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeVar

T = TypeVar("T")

_LONGEST = 60  # characters of a text, or of a name, that are repeated
_CONTAINERS: dict[Any, str] = {Mapping: "dictionary", list: "list", tuple: "tuple", Set: "set"}


def described(value: Any) -> str:
    """A value in a few words: ``'dog'``, ``3``, ``a list of 7``, ``an object of class nn.Linear``.

    What a container holds is never looked at: a few bytes of a file can make one that would take
    for ever to write out.
    """
    if value is None or isinstance(value, bool | float | complex):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"
    if isinstance(value, str | bytes):
        return repr(value[:_LONGEST]) + ("..." if len(value) > _LONGEST else "")
    for container, name in _CONTAINERS.items():
        if isinstance(value, container):
            return f"a {name} of {len(value)}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"a tensor of shape {described_shape(shape)}"
    kind = getattr(value, "kind", None)
    return (
        f"an object of class {(kind if isinstance(kind, str) else type(value).__name__)[:_LONGEST]}"
    )


def a(name: str) -> str:
    """With its article: "an array"."""
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def kind_of(value: Any) -> str:
    """What something is: "a tuple"."""
    return a(type(value).__name__)


def described_shape(shape: tuple[Any, ...]) -> str:
    """A shape, in one line whatever is in it."""
    sizes = ", ".join(described(size) for size in shape[:8])
    alone = "," if len(shape) == 1 else ""
    return f"({sizes}{alone}{', ...' if len(shape) > 8 else ''})"


def expect(value: Any, kind: type[T], what: str, expected: str) -> T:
    """The value, if it is of that kind (True and False are no numbers).

    Args:
        what: names the value in the error: "x.pth: its encoder's _modules".
        expected: names the kind there: "a dictionary of modules".

    Raises:
        ValueError: it is of another kind: "WHAT is a list of 3, expected EXPECTED".
    """
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{what} is {described(value)}, expected {expected}")
