"""Chat templates (Jinja), rendered within bounds.

A template is a program that comes with a model: it may loop for ever, or double a text forty times.
Jinja's sandbox keeps it from the machine, but sets no limits. Here every value that a template
makes, every step of a loop and every call is counted. The text is the one that transformers makes;
it is not asked to render it again, since a template can tell one renderer from the other.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer
from markupsafe import Markup

LONGEST = 2**18
"""Characters of a template, and of a chat in its words."""

_MOST = 2**20
"""Characters, elements and steps of all that a template makes on the way."""

_SECONDS = 10.0

_CALL = 32
"""Steps that a call costs."""

_DIGITS = re.compile(r"\d+")
_LONGEST_NUMBER = 4000
"""Digits of a width; Python reads few more."""


class TooMuchError(ValueError):
    """A template asks for more than any chat needs."""


class _Account:
    """What is left of the bounds."""

    def __init__(self) -> None:
        self._left, self._end = _MOST, time.monotonic() + _SECONDS

    def charge(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0 or time.monotonic() > self._end:
            raise TooMuchError(
                f"it asks for more than {_MOST:,} characters and steps, or {_SECONDS:.0f} s"
            )


_account: ContextVar[_Account] = ContextVar("account")


def rendered(template: str, **given: Any) -> str:
    """What a template says.

    Raises:
        TooMuchError: it, or what it says, is longer than :data:`LONGEST`, or it asks for more on
            the way than any chat needs.
        TemplateError: it is no template, or refuses what it is given.
    """
    if len(template) > LONGEST:
        raise TooMuchError(f"it has {len(template):,} characters, more than {LONGEST:,}")
    token = _account.set(_Account())
    try:
        pieces, length = [], 0
        for piece in _compiled(template).generate(**given):
            pieces.append(piece)
            length += len(piece)
            _charge(len(piece) + 1)
            if length > LONGEST:
                raise TooMuchError(f"it says more than {LONGEST:,} characters")
        return "".join(pieces)
    finally:
        _account.reset(token)


def _charge(cost: int) -> None:
    _account.get().charge(cost)


def _size(value: Any) -> int:
    """Characters and elements of a value, however deep; what is shared counts each time."""
    size, waiting = 0, [value]
    while waiting and size <= _MOST:
        found = waiting.pop()
        size += 1
        if isinstance(found, str | bytes):
            size += len(found)
        elif isinstance(found, dict):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set | KeysView | ValuesView | ItemsView):
            waiting += found
        elif isinstance(found, Namespace):
            waiting.append(found._Namespace__attrs)
        elif isinstance(found, int):
            size += found.bit_length() // 8
        elif isinstance(found, range):
            size += len(found)
    return size


def _weighed(value: Any) -> Any:
    _charge(_size(value))
    return value


def _numbers(value: Any) -> int:
    """Whole numbers in a value, which may be lengths of what is made with it."""
    if isinstance(value, list | tuple):
        return sum(map(_numbers, value))
    return abs(value) if isinstance(value, int) else 0


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which is not called where what it makes may be too much, by the numbers and
    texts that it is given."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _listed(args, kwargs)
        found = [getattr(function, "__self__", None), *args, *kwargs.values()]
        _charge(_cost(found))
        return _weighed(function(*args, **kwargs))

    return call


def _listed(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], Any]:
    """What a function is given, where iterators, whose size nobody knows, are lists."""
    return tuple(map(_as_list, args)), {name: _as_list(value) for name, value in kwargs.items()}


def _as_list(value: Any) -> Any:
    iterator = isinstance(value, Iterator) and not isinstance(value, LoopContext)
    return list(_steps(value)) if iterator else value


def _cost(found: list[Any]) -> int:
    sizes = sorted((_size(value) for value in found), reverse=True)
    cost = sum(sizes) + _numbers(found)
    if len(sizes) > 1:  # as by "a" * 9 | replace("a", "aaa")
        cost += sizes[0] * sizes[1]
    # A width may be one of each line or tab of a text.
    lengths = [_size(value) for value in found if isinstance(value, str | list | tuple | dict)]
    cost += max(lengths, default=0) * sum(abs(n) for n in found if isinstance(n, int))
    return cost + sum(_widths(text) for text in found if isinstance(text, str) and "%" in text)


def _widths(text: str) -> int:
    """The sum of the numbers in a text that may be one of formats."""
    runs = _DIGITS.findall(text)
    return sum(int(run) if len(run) < _LONGEST_NUMBER else _MOST + 1 for run in runs)


class _Bounded:
    """Formats what is no wider than the bounds; widths may stand in the text, or be given."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        _charge(_size(value) + _widths(format_spec))
        return super().format_field(value, format_spec)  # type: ignore[misc]


class _Formatter(_Bounded, SandboxedFormatter):
    pass


class _EscapeFormatter(_Bounded, SandboxedEscapeFormatter):
    pass


class _Environment(ImmutableSandboxedEnvironment):
    """As that of transformers' chat templates, within bounds."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = _size(left) + _size(right)
        if operator in ("*", "**"):
            sizes *= max(_numbers(left), _numbers(right), 1) if operator == "*" else _numbers(right)
        elif operator == "%":
            sizes = _cost([left, right])
        _charge(sizes)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Any:
        """``str.format`` and ``str.format_map`` as the sandbox has them, within bounds."""
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        text = value.__self__
        escaping = isinstance(text, Markup)
        formatter = _EscapeFormatter(self, escape=text.escape) if escaping else _Formatter(self)

        @wraps(sandboxed)
        def call(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return call

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _listed(args, kwargs)
        method = getattr(__obj, "__wrapped__", __obj)  # str.format is wrapped by the sandbox
        found = [getattr(method, "__self__", None), *args, *kwargs.values()]
        _charge(_CALL + _cost([value for value in found if not isinstance(value, Template)]))
        return _weighed(super().call(__context, __obj, *args, **kwargs))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        counted = []
        for piece in pieces:
            _charge(len(piece) + 1)
            counted.append(piece)
        return "".join(counted)


class _Counting(NodeTransformer):
    """Has all that a template makes or walks through weighed."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _through("steps", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _through("joined", nodes.List(node.nodes))

    def weigh(self, node: Any) -> nodes.Expr:
        self.generic_visit(node)
        return _through("weighed", node)

    visit_List = visit_Tuple = visit_Dict = weigh

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        part = isinstance(node.arg, nodes.Slice)
        return self.weigh(node) if part else self.generic_visit(node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _through("weighed", node.expr)
        for operand in node.ops:
            operand.expr = _through("weighed", operand.expr)
        return node


def _through(name: str, value: Any) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


def _steps(iterable: Any) -> Iterator[Any]:
    for each in iterable:
        _charge(1)
        yield each


def _joined(parts: list[Any]) -> str:
    _charge(sum(map(_size, parts)))
    return _Environment.concat(map(str, parts))


class _Generation(Extension):
    """``{% generation %}``: around what the assistant says; the same text."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=16)
def _compiled(template: str) -> Template:
    environment = _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # whose constants would be made without being counted
        extensions=[_Generation, loopcontrols],
        finalize=_weighed,
    )
    environment.filters["tojson"] = _as_json
    for kind in (environment.filters, environment.tests, environment.globals):
        for name, function in list(kind.items()):
            if callable(function) and not isinstance(function, type):
                kind[name] = _bounded(function)
    del environment.globals["lipsum"]  # which makes texts of any length
    environment.filters |= {"steps": _steps, "joined": _joined, "weighed": _weighed}
    environment.globals |= {"raise_exception": _refuse, "strftime_now": time.strftime}
    return environment.from_string(_Counting().visit(environment.parse(template)))


def _as_json(value: Any, **options: Any) -> str:
    encoder = json.JSONEncoder(**{"ensure_ascii": False, **options})
    return _Environment.concat(encoder.iterencode(value))


def _refuse(message: str) -> None:
    raise TemplateError(message)
