"""What other packages register is found, or refused in one line that names the package."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from vlcam.cli import commands
from vlcam.cli.commands import Command
from vlcam.cli.parser import main
from vlcam.utils.registered import registered

HELLO, BYE = (Command(name, "Says so.", f"acme.{name}") for name in ("hello", "bye"))


def entry(package: str, load: Callable[[], Any]) -> SimpleNamespace:
    dist = SimpleNamespace(name=package)
    return SimpleNamespace(name=package, value=f"{package}:THINGS", group="g", dist=dist, load=load)


def install(monkeypatch: pytest.MonkeyPatch, *entries: SimpleNamespace) -> None:
    monkeypatch.setattr("vlcam.utils.registered.entry_points", lambda group: entries)


def test_one_or_a_list_by_the_packages_names(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry("zeta", lambda: HELLO), entry("acme", lambda: [BYE]))
    assert registered("g", Command) == [BYE, HELLO]


def _broken() -> Any:
    raise SyntaxError("no such\nluck")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (_broken, r"acme: its entry point acme:THINGS \(g\) cannot be used \(no such luck\)"),
        (lambda: 3, "acme: .* holds 3, expected a list of Command"),
        (lambda: iter([HELLO]), "acme: .* holds <.*iterator.*>, expected a list of Command"),
        (lambda: [HELLO, 3], r"acme: .* holds 3, expected a list of Command"),
        (lambda: [HELLO, HELLO], r"acme registers 'hello' \(g\), which acme has already"),
    ],
)
def test_what_cannot_be_used_is_refused(
    load: Callable[[], Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, entry("acme", load))
    with pytest.raises(ValueError, match=message) as refused:
        registered("g", Command)
    assert "\n" not in str(refused.value)


def test_two_packages_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, entry("acme", lambda: [HELLO]), entry("zeta", lambda: [HELLO]))
    with pytest.raises(ValueError, match=r"zeta registers 'hello' \(g\), which acme has already"):
        registered("g", Command)


@pytest.mark.parametrize("name", ["explain", "train"])
def test_a_command_of_our_name(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, entry("acme", lambda: [Command(name, "Mine.", "acme")]))
    assert main(["--help"]) == 1
    assert (
        f"acme registers {name!r} (vlcam.commands), which vlcam itself has already"
        in capsys.readouterr().err
    )


def test_a_command_whose_module_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, entry("acme", lambda: [HELLO]))
    monkeypatch.setattr(commands, "kinds", lambda group: [])
    assert main(["hello"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("vlcam: command hello: acme.hello cannot be used (No module named")
    assert told.count("\n") == 1
