"""What installed packages register under a group of entry points, one entry a package."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from vlcam.utils.messages.errors import one_line

Kind = TypeVar("Kind")


def registered(group: str, kind: type[Kind], taken: Iterable[str] = ()) -> list[Kind]:
    """All things of a kind that packages register, by the names of their entries; an entry is one
    of them, or a list.

    Args:
        taken: names that vlcam itself has.

    Raises:
        ValueError: an entry cannot be imported or is something else, or a name is taken; the
            package is named.
    """
    found: list[Kind] = []
    owners: dict[object, str] = dict.fromkeys(taken, "vlcam itself")
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        package = _package(entry)  # once an entry: its metadata are parsed anew each time
        for one in _loaded(entry, kind):
            name = getattr(one, "name", None)
            if name in owners:
                raise ValueError(
                    f"{package} registers {name!r} ({group}), which {owners[name]} has"
                    " already; uninstall it"
                )
            if name is not None:
                owners[name] = package
            found.append(one)
    return found


def _loaded(entry: EntryPoint, kind: type[Kind]) -> list[Kind]:
    try:
        loaded = entry.load()
    except Exception as error:  # whatever a package of somebody else's raises when imported
        raise ValueError(
            f"{_about(entry)} cannot be used ({one_line(error)}); mend or uninstall it"
        ) from error
    things = [loaded] if isinstance(loaded, kind) else loaded
    if not isinstance(things, list | tuple):  # a generator would be empty the next time
        things = [things]
    for one in things:
        if not isinstance(one, kind):
            raise ValueError(f"{_about(entry)} holds {one!r}, expected a list of {kind.__name__}")
    return list(things)


def _about(entry: EntryPoint) -> str:
    return f"{_package(entry)}: its entry point {entry.value} ({entry.group})"


def _package(entry: EntryPoint) -> str:
    """The distribution an entry comes from."""
    return entry.dist.name if entry.dist is not None else entry.name
