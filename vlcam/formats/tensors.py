"""Writing safetensors, with the rights that other new files have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Write contiguous tensors to a new file, with metadata. It can be read by those who can read
    what else the process writes; safetensors alone keeps it to its owner."""
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, None if about is None else dict(about))
    path.chmod(mode)
