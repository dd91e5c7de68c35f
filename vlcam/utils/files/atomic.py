"""Files and folders that are there whole or not at all, whatever ends the program.

What is written is drafted in ``.vlcam/draft-*/new`` beside its place, on the same disk, and moved
to its place once all of it is on the disk. A single file, or a folder that is not there yet, takes
one rename, which happens or does not. Where it takes several (files go into a folder that is there
already), ``new`` is first renamed to ``whole``, and what was there is kept in ``old`` until all is
moved: an error in between puts the old back; after a kill the next who reads or writes there moves
the rest (:func:`recover`). ``lock`` is held for as long as the program lives that works in a draft:
those of programs that are dead are removed, others left alone.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

HIDDEN = ".vlcam"
"""The folder of drafts, beside what is written; it is there only while something is."""

_RUST = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust tell the system's errors."""

_unfinished: dict[Path, Path] = {}
"""The drafts of this process, with the folders they are for."""

_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
"""Where nothing of ours can be, or nothing can be changed."""


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """Gives a draft of a file to write to, which replaces ``path`` only if nothing failed.

    Folders on the way to it are made. A symbolic link is followed; a device or a pipe (``/dev/
    stdout``) is written to, not replaced.

    Raises:
        OSError: it cannot be written; the error names the file, whoever raised it.
    """
    shown, place = Path(path), Path(os.path.realpath(path))
    with _naming(place, shown):
        if shown.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(shown))
        if shown.exists() and not shown.is_file():
            with tempfile.TemporaryDirectory() as folder:
                draft = Path(folder, shown.name)
                yield draft
                with draft.open("rb") as file, shown.open("wb") as out:
                    shutil.copyfileobj(file, out)
            return
        with _drafted(place.parent) as folder:
            yield folder / place.name


@contextmanager
def folder_written(folder: str | Path) -> Iterator[Path]:
    """Gives a draft folder, all of whose content comes into ``folder`` if nothing failed, else none
    of it. What else is in ``folder`` stays.

    Raises:
        OSError: as by :func:`written`.
    """
    place = Path(os.path.realpath(folder))
    with _naming(place, Path(folder)):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        recover(place.parent)  # where it was new to a program that was killed
        if place.is_dir():
            with _drafted(place) as draft:
                yield draft
            return
        with _drafted(place.parent) as parent:
            draft = parent / place.name
            draft.mkdir()
            yield draft


def recover(folder: str | Path) -> None:
    """Move to its place what killed programs had begun to move into a folder, and remove what else
    they left there; a folder that may not be written to stays as it is."""
    folder = Path(folder)
    try:
        if not (folder / HIDDEN).is_dir():
            return
        for path in sorted((folder / HIDDEN).glob("draft-*")):
            if draft := _Draft.taken(folder, path):
                with draft.released():
                    draft.move_rest()
                    draft.remove()
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
    _remove_hidden(folder)


def abandon() -> None:
    """Remove all that this process has not finished, for it must end now. What is being moved stays
    as it is, to be recovered."""
    for path, folder in list(_unfinished.items()):
        with suppress(FileNotFoundError):
            (path / "new").rename(path / "dropped")  # no thread can begin to move it any more
        if not (path / "whole").exists():
            shutil.rmtree(path, ignore_errors=True)
        _remove_hidden(folder)


class _Draft:
    """A folder in :data:`HIDDEN`, held by this process: what is written there goes to ``folder``.

    Attributes:
        new: what is being written.
    """

    def __init__(self, folder: Path, path: Path, lock: Any) -> None:
        self.folder, self.path, self._lock = folder, path, lock
        self.new, self._whole, self._old = path / "new", path / "whole", path / "old"

    @classmethod
    def made(cls, folder: Path) -> _Draft:
        """A new one."""
        for last in (False, False, False, True):
            try:
                (folder / HIDDEN).mkdir(exist_ok=True)
                path = folder / HIDDEN / f"draft-{secrets.token_hex(6)}"
                _unfinished[path] = folder
                path.mkdir(0o700)
                draft = cls.taken(folder, path)
            except FileNotFoundError:  # removed by another program, which had just finished
                if last:
                    raise
                continue
            except BaseException:
                _remove_hidden(folder)
                raise
            if draft is not None:
                return draft
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(folder / HIDDEN))

    @classmethod
    def taken(cls, folder: Path, path: Path) -> _Draft | None:
        """One that is there, if nobody else works in it."""
        from filelock import FileLock, Timeout

        if any(one.is_symlink() for one in (path.parent, path, path / "lock")):
            return None  # of somebody who means no good
        lock = FileLock(path / "lock")
        try:
            lock.acquire(blocking=False)
        except (Timeout, FileNotFoundError):
            return None
        if (path / "lock").exists():
            return cls(folder, path, lock)
        lock.release()  # of a folder that another program has removed meanwhile
        return None

    @contextmanager
    def released(self) -> Iterator[None]:
        """Let others have it in the end."""
        try:
            yield
        finally:
            self._lock.release()
            _remove_hidden(self.folder)
            _unfinished.pop(self.path, None)

    def remove(self) -> None:
        """Unless something in it has yet to be moved."""
        if not self._whole.exists():
            shutil.rmtree(self.path)

    def settle(self) -> None:
        """Move what was written to its place: all, or nothing."""
        moves = _moves(self.new, self.folder)
        for move in moves:
            _sync_all(self.new / move)
        if len(moves) == 1:
            place = self.folder / moves[0]
            (self.new / moves[0]).replace(place)
            _sync(place.parent)
            return
        for parent in {(self.new / move).parent for move in moves}:
            _sync(parent)
        self.new.rename(self._whole)
        _sync(self.path)
        done: list[tuple[Path, Path]] = []
        try:
            self._move(moves, done)
        except BaseException:
            for start, stop in reversed(done):
                stop.replace(start)
            self._whole.rename(self.new)
            raise
        shutil.rmtree(self._whole)

    def move_rest(self) -> None:
        """Go on where a program was killed that had begun to move."""
        if self._whole.exists():
            self._move(_moves(self._whole, self.folder), [])
            shutil.rmtree(self._whole)

    def _move(self, moves: list[Path], done: list[tuple[Path, Path]]) -> None:
        """Move files and folders, and say of each in ``done`` whence and whither."""
        for move in moves:
            place, kept = self.folder / move, self._old / move
            if os.path.lexists(place):
                kept.parent.mkdir(parents=True, exist_ok=True)
                place.replace(kept)
                done.append((place, kept))
            (self._whole / move).replace(place)
            done.append((self._whole / move, place))
        for parent in {(self.folder / move).parent for move in moves}:
            _sync(parent)


def _remove_hidden(folder: Path) -> None:
    with suppress(OSError):  # somebody else works in it
        (folder / HIDDEN).rmdir()


@contextmanager
def _drafted(folder: Path) -> Iterator[Path]:
    """Gives an empty folder, whose content is moved to ``folder`` if nothing failed."""
    with _made(folder):
        recover(folder)
        draft = _Draft.made(folder)
        with draft.released():
            try:
                draft.new.mkdir()
                yield draft.new
                draft.settle()
            except BaseException as error:
                if _is_the_systems(error) and getattr(error, "filename", None) is None:
                    error.draft = _last(draft.new)  # type: ignore[attr-defined]
                with suppress(OSError):  # what is left the next one removes
                    draft.remove()
                raise
            draft.remove()


def _last(folder: Path) -> str | None:
    """The file in a folder that was written last: what an error of writing is about that does not
    say."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    last = max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
    return None if last is None else str(last)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Has a folder, and those above it, made; not for good if something fails."""
    missing = list(takewhile(lambda one: not one.exists(), (folder, *folder.parents)))
    there = missing[-1].parent if missing else folder
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for one in missing:
            with suppress(OSError):  # somebody else may use it by now
                one.rmdir()
        raise
    for one in missing:
        _sync(one.parent)


def _moves(start: Path, folder: Path, inside: Path = Path()) -> list[Path]:
    """What is to be moved from one folder to the other: a folder that is there already is gone
    into."""
    moves: list[Path] = []
    for path in sorted((start / inside).iterdir()):
        move = inside / path.name
        place = folder / move
        if path.is_dir() and place.is_dir() and not place.is_symlink():  # or it led out of it
            moves += _moves(start, folder, move)
        elif os.path.lexists(place) and (path.is_dir() or place.is_dir()):
            number = errno.EISDIR if place.is_dir() else errno.ENOTDIR
            raise OSError(number, os.strerror(number), str(place))
        else:
            moves.append(move)
    return moves


def _sync_all(path: Path) -> None:
    """Have a file on the disk, or a folder with all that is in it."""
    if path.is_dir():
        for inner in path.iterdir():
            _sync_all(inner)
    _sync(path)


def _sync(path: Path) -> None:
    if os.name != "posix":
        return  # others open no folders, nor files that are only read
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no such thing, of folders
            raise
    finally:
        os.close(file)


@contextmanager
def _naming(place: Path, shown: Path) -> Iterator[None]:
    """Lets every error of writing inside name a file, by the name its user gave it."""
    try:
        yield
    except Exception as error:
        named = _named(error, place, shown)
        if named is error:
            raise
        raise named from error


def _is_the_systems(error: BaseException) -> bool:
    return isinstance(error, OSError) or (
        not isinstance(error, ValueError) and _RUST.search(str(error)) is not None
    )


def _named(error: Exception, place: Path, shown: Path) -> Exception:
    if not _is_the_systems(error):
        return error
    rust = _RUST.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(rust[1]) if rust else None
    name = getattr(error, "filename", None) or getattr(error, "draft", None)
    about = shown if name is None else _as_given(Path(os.fsdecode(name)), place, shown)
    if number is None:  # NumPy's, of an array that was written in part
        return OSError(f"{about}: {error}")
    return OSError(number, os.strerror(number), str(about))


def _as_given(path: Path, place: Path, shown: Path) -> Path:
    """What a user calls a file whose error names a draft, or a folder above it."""
    parts, start = path.parts, len(place.parts) - 1  # a place may itself be in a draft
    if HIDDEN in parts[start:]:
        top = parts.index(HIDDEN, start)
        path = Path(*parts[:top], *parts[top + 3 :])
        path = path if path.is_relative_to(place) else place
    if path.is_relative_to(place):
        return shown / path.relative_to(place)
    above = len(place.parts) - len(path.parts) - 1
    if not place.is_relative_to(path) or above >= len(shown.parents):
        return path
    given = shown.parents[above]
    return given if Path(os.path.realpath(given)) == path else path
