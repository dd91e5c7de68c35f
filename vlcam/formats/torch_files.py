"""Checkpoints that ``torch.save`` wrote: what is in them, without running anything."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlcam.formats.torch_pickle import module_state, read_torch_modules

_HEAD = 2**22  # bytes in which older files have the names of their tensors


def mentions(path: Path, *names: str) -> bool:
    """Whether a file that ``torch.save`` wrote has these names in it (of tensors, say).

    Cheap: the tensors themselves are not read. Of any other file it is false.
    """
    try:
        head = _names(path)
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return False
    return all(name.encode() in head for name in names)


def _names(path: Path) -> bytes:
    with path.open("rb") as file:
        begin = file.read(4)
        if begin[:1] == b"\x80":  # a pickle: as torch.save wrote before version 1.6
            return file.read(_HEAD)
        if begin != b"PK\x03\x04":
            return b""
        try:
            with zipfile.ZipFile(file) as archive:
                pickles = [m for m in archive.infolist() if m.filename.endswith("/data.pkl")]
                if not pickles or pickles[0].file_size > _HEAD:
                    return b""
                return archive.read(pickles[0])
        except zipfile.BadZipFile:  # cut short; the names come first
            file.seek(0)
            return file.read(_HEAD)


def read_checkpoint(path: Path, key: str = "state_dict") -> dict[str, Tensor]:
    """The state dict of a checkpoint, itself one (or a module), or a dict with it under ``key``.

    Names lose the ``module.`` that ``nn.DataParallel`` puts before them; half precision is cast to
    float32.

    Raises:
        ValueError: the file cannot be read, or holds no state dict.
    """
    saved = read_torch_modules(path)
    if isinstance(saved, Mapping) and key in saved:
        saved = saved[key]
    state = module_state(saved, f"{path}: its {key}")
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
