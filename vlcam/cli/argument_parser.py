"""A parser of command lines that tells in one line what is wrong, and what may have been meant."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from vlcam.utils.messages.errors import flat
from vlcam.utils.messages.nearest import unknown


class Parser(argparse.ArgumentParser):
    """As argparse's, but for what it says: a name that is not known, of an option, of a command or
    of what an option takes, is told with the known names that are nearest. An option that takes one
    value is refused where it is given two.

    Attributes:
        given: the values of such options so far.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: dict[str, Any] = {}
        for name in (None, "store"):
            self.register("action", name, Once)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{flat(f'{self.prog}: {message}')} (see {self.prog} --help)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's; an option that is not known is told before all that may be missing."""
        self.given = {}
        for option in self._options(args or ()):
            if not self._is_known(option):
                self.error(unknown("option", option, self._own_options()))
        return super().parse_known_args(args, namespace)

    def _options(self, words: Sequence[str]) -> Iterator[str]:
        """The words of a command line that argparse takes for options of this parser."""
        for word in words:
            if word == "--" or (self._subparsers and not word.startswith("-")):
                return  # behind the name of a command its own options follow
            if word.startswith("-") and word != "-" and " " not in word and not _is_number(word):
                yield word.partition("=")[0]

    def _is_known(self, option: str) -> bool:
        """Long options may be cut short, values may follow short ones at once."""
        known = self._own_options()
        if option.startswith("--"):
            return any(one.startswith(option) for one in known)
        return option[:2] in known

    def _own_options(self) -> list[str]:
        return list(self._option_string_actions)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, unknown("command", value, _spoken(action)))
        raise argparse.ArgumentError(action, unknown("choice", value, map(str, action.choices)))


class Once(argparse.Action):
    """An option that takes one: given again with another value, it is refused."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, Parser)
        before = parser.given.setdefault(self.dest, values)
        if before != values:
            raise argparse.ArgumentError(self, f"given twice, {_told(before)} and {_told(values)}")
        setattr(namespace, self.dest, values)


def _told(values: Any) -> str:
    return " ".join(map(str, values)) if isinstance(values, list) else str(values)


def _spoken(commands: argparse._SubParsersAction[Any]) -> Iterable[str]:
    """The names of commands, then those of the commands of each: ``train captioner``."""
    yield from commands.choices
    for name, parser in commands.choices.items():
        inner = parser._subparsers._group_actions if parser._subparsers else ()
        for action in inner:
            yield from (f"{name} {one}" for one in action.choices or ())


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
