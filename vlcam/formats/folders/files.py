"""The files of a model's folder: none that another file names, or that is a link, lies outside."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vlcam.formats.hub.cache import repository_of
from vlcam.utils.files.input_files import check_file
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.expected import described, expect

_BLOBS = ("snapshots", "blobs")
"""How the Hugging Face hub's cache calls the folders of a revision's links, and of the files."""


def model_name(folder: Path) -> str:
    """What the model in a folder is called: as the folder; of the hub's cache, whose folders are
    called by a number, as in the hub, without its owner."""
    repository = repository_of(folder)
    return repository.partition("/")[2] if repository else folder.resolve().name


def inside(folder: Path, name: str, where: str) -> Path:
    """The file of a folder that another file of it names.

    Args:
        where: names that other file in errors.

    Raises:
        ValueError: the name, or a link of that name, leads out of the folder.
    """
    kinds = (PurePosixPath(name), PureWindowsPath(name))
    if any(kind.is_absolute() or kind.drive or ".." in kind.parts for kind in kinds):
        raise ValueError(f"{where}: names {described(name)}, which lies outside of its folder")
    path = folder / name
    _check(folder, path)
    return path


def check_files(place: Path) -> None:
    """Refuses a model's file, or a folder with one, that is a pipe or a device, and a folder with a
    link out of it. Links within it are as good as files, and so are those of the Hugging Face hub's
    cache to its ``blobs``.

    Raises:
        ValueError: there is one, which is named.
    """
    for path in place.iterdir() if place.is_dir() else [place]:
        if path.is_symlink() and path != place:
            _check(place, path)
        if path.exists() and not path.is_dir():
            try:
                check_file(path)
            except OSError as error:
                raise ValueError(one_line(error)) from error


def _check(folder: Path, path: Path) -> None:
    home = folder.resolve()
    snapshots, blobs = _BLOBS
    homes = [home]
    if home.parent.name == snapshots:
        homes.append(home.parent.parent / blobs)
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: a link that leads nowhere") from error
    if not any(real.is_relative_to(place) for place in homes):
        raise ValueError(f"{path}: a link to {real}, outside of its folder; put the file there")


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file of a folder.

    Raises:
        ValueError: there is no such file, or it is no JSON object.
    """
    return expect(read_json(path), dict, str(path), "an object of settings")
