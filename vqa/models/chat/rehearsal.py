"""Chat templates (Jinja), tried within bounds before transformers renders them.

A template is a program that comes with a model: it may loop for ever, or double a text forty times.
Jinja's sandbox keeps it from the machine, but sets no limits. So it runs here first, where every
value that it makes, every step of a loop and every call is counted.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from functools import lru_cache, partial, wraps
from typing import Any

from jinja2 import Template, nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

LONGEST = 2**18
"""Characters of a template, and of a chat in its words."""

_MOST = 2**20
"""Characters, elements and steps of all that a template makes on the way."""

_SECONDS = 10.0

_CALL = 32
"""Steps that a call costs."""

_DIGITS = re.compile(r"\d+")


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


def rehearse(template: str, **given: Any) -> None:
    """Render a template and forget it.

    Raises:
        TooMuchError: it, or what it says, is longer than :data:`LONGEST`, or it asks for more on
            the way than any chat needs.
        TemplateError: it is no template, or refuses what it is given.
    """
    if len(template) > LONGEST:
        raise TooMuchError(f"it has {len(template):,} characters, more than {LONGEST:,}")
    token = _account.set(_Account())
    try:
        length = 0
        for piece in _compiled(template).generate(**given):
            length += len(piece)
            _charge(len(piece) + 1)
            if length > LONGEST:
                raise TooMuchError(f"it says more than {LONGEST:,} characters")
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
        elif isinstance(found, list | tuple | set):
            waiting += found
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
        found = [getattr(function, "__self__", None), *args, *kwargs.values()]
        _charge(_cost(found))
        return _weighed(function(*args, **kwargs))

    return call


def _cost(found: list[Any]) -> int:
    sizes = sorted((_size(value) for value in found), reverse=True)
    cost = sum(sizes) + _numbers(found)
    if len(sizes) > 1:  # as by "a" * 9 | replace("a", "aaa")
        cost += sizes[0] * sizes[1]
    return cost + sum(
        int(run[:9]) for text in found if isinstance(text, str) for run in _widths(text)
    )


def _widths(text: str) -> list[str]:
    """Numbers in a text that may be one of formats."""
    return _DIGITS.findall(text) if "%" in text or "{" in text else []


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

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
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
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    for kind in (environment.filters, environment.tests, environment.globals):
        for name, function in list(kind.items()):
            if callable(function) and not isinstance(function, type):
                kind[name] = _bounded(function)
    del environment.globals["lipsum"]  # which makes texts of any length
    environment.filters |= {"steps": _steps, "joined": _joined, "weighed": _weighed}
    environment.globals |= {"raise_exception": _refuse, "strftime_now": time.strftime}
    return environment.from_string(_Counting().visit(environment.parse(template)))


def _refuse(message: str) -> None:
    raise TemplateError(message)
