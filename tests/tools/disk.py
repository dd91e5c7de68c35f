"""A disk that fails at the n-th operation, or a program that is killed there, as SQLite's tests do.

What a program does to the disk is watched where Python calls the system: open (to write), mkdir,
rename, replace, unlink, rmdir, link, fsync. Writing itself fails behind a number of bytes, in
libraries of C and Rust too, as the system limits a file's size.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CALLS = ("open", "mkdir", "rename", "replace", "unlink", "remove", "rmdir", "link", "fsync")

Before = Callable[[str, Any], None]
"""Called with the name of each operation and the path it is about, if any, before it."""


@contextmanager
def _watched(before: Before) -> Iterator[None]:
    real = {name: getattr(os, name) for name in _CALLS}
    plain_open = builtins.open
    busy = False

    def asked(name: str, path: Any) -> None:
        nonlocal busy
        if not busy:  # what `before` itself does is not counted
            busy = True
            try:
                before(name, path)
            finally:
                busy = False

    def wrapped(name: str) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            reads = name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR)
            if not reads:
                asked(name, None if name == "fsync" else args[0])
            # The disk of a test need not outlive a power cut.
            return None if name == "fsync" else real[name](*args, **more)

        return call

    def open_(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
        if set(mode) & set("wax+"):
            asked("open", file)
        return plain_open(file, mode, *args, **more)

    try:
        for name in _CALLS:
            setattr(os, name, wrapped(name))
        for module in (builtins, io):
            module.open = open_  # type: ignore[attr-defined]
        yield
    finally:
        for module in (builtins, io):
            module.open = plain_open  # type: ignore[attr-defined]
        for name, function in real.items():
            setattr(os, name, function)


def operations(work: Callable[[], object]) -> list[str]:
    """What some work does to the disk, in order."""
    found: list[str] = []
    with _watched(lambda name, _: found.append(name)):
        work()
    return found


@contextmanager
def failing(at: int, lasting: bool = False) -> Iterator[None]:
    """The ``at``-th operation fails; ``lasting``: all that follow, too."""
    count = 0

    def before(_: str, path: Any) -> None:
        nonlocal count
        count += 1
        if count == at or (lasting and count > at):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with _watched(before):
        yield


@contextmanager
def full(size: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def killed(work: Callable[[], object], folder: Path, copies: Path) -> list[Path]:
    """What a folder would be like had the program been killed before each operation: copies of it,
    in which nobody holds a lock."""
    found: list[Path] = []

    def before(name: str, _: Any) -> None:
        found.append(copies / f"{len(found)}-{name}")
        shutil.copytree(folder, found[-1], symlinks=True)

    with _watched(before):
        work()
    return found


def check_writer(
    folder: Path,
    write: Callable[[Path, int], object],
    read: Callable[[Path], object],
    *,
    sizes: tuple[int, ...] = (0, 100),
    every: int = 1,
    replaces: bool = True,
) -> None:
    """Whatever fails, and wherever the program is killed: what was there or what is new is whole,
    and the next run succeeds and leaves nothing behind but that.

    Args:
        folder: empty; there is work in it.
        write: in a folder, the first or second version.
        read: from a folder; None: there is nothing. It fails at what is not whole. The next run is
            ``write`` too, as is told by reading the second version.
        sizes: of files at which the disk is full.
        every: of the failing operations, try each n-th, and all of the moves; 0: none, as writing
            takes long, and only one of the runs that follow a kill.
        replaces: whether it takes the place of what is there.
    """
    lone, first = folder / "lone", folder / "first"
    lone.mkdir()
    write(lone, 2)
    new = read(lone)
    assert new is not None
    starts: list[tuple[Path | None, object]] = [(None, None)]
    if replaces:
        first.mkdir()
        write(first, 1)
        (first / "notes.txt").write_text("mine")
        assert read(first) not in (None, new)
        starts.append((first, read(first)))
    for start, before in starts:
        trial = _Trial(write, read, folder / "second", start, before, new, every)
        trial.check_failures()
        trial.check_full(sizes)
        trial.check_kills(folder / "copies")


@dataclass(frozen=True)
class _Trial:
    """A writer at work in a folder.

    Attributes:
        start: what the folder is like before the work; None: empty.
        before: what is read then.
        new: what is read when the work is done.
    """

    write: Callable[[Path, int], object]
    read: Callable[[Path], object]
    folder: Path
    start: Path | None
    before: object
    new: object
    every: int

    def check_failures(self) -> None:
        """At any operation, that one or all from there on."""
        self._begin()
        steps = operations(self._work)
        assert self.read(self.folder) == self.new and not hidden(self.folder)
        for at, step in enumerate(steps, start=1):
            if not self.every or (step not in ("rename", "replace") and at % self.every):
                continue
            for lasting in (False, True):
                self._begin()
                try:
                    with failing(at, lasting):
                        self._work()
                except OSError as error:
                    assert error.errno == errno.EIO, (at, step, error)
                    assert error.filename, (at, step, error)
                self._check(self.folder, (self.before, self.new), again=lasting)

    def check_full(self, sizes: tuple[int, ...]) -> None:
        """Of files that can grow to so many bytes: nothing new is there."""
        for size in sizes:
            self._begin()
            try:
                with full(size):
                    self._work()
            except OSError as error:
                assert error.filename and str(self.folder) in error.filename, (size, error)
                assert error.errno == errno.EFBIG, (size, error)
                self._check(self.folder, (self.before,), again=True)
            else:
                raise AssertionError(f"nothing is larger than {size} bytes")

    def check_kills(self, copies: Path) -> None:
        """Before any operation."""
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir()
        self._begin()
        states = killed(self._work, self.folder, copies)
        for number, state in enumerate(states):
            if self.every:
                moved = state.name.endswith(("rename", "replace", "rmdir"))
                again = moved or number % self.every == 0
            else:
                again = number == len(states) - 2
            self._check(state, (self.before, self.new), again)

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.start:
            shutil.copytree(self.start, self.folder)
        else:
            self.folder.mkdir()

    def _work(self) -> None:
        self.write(self.folder, 2)

    def _check(self, path: Path, allowed: tuple[object, ...], again: bool) -> None:
        """What is there is whole; ``again``: the next run succeeds and leaves nothing else."""
        assert self.read(path) in allowed, path
        if again:
            self.write(path, 2)
            assert self.read(path) == self.new, path
            assert not hidden(path), (path, hidden(path))
        assert not self.start or (path / "notes.txt").read_text() == "mine"


def hidden(folder: Path) -> list[str]:
    """What begins with a dot, however deep."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]
