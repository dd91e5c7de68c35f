"""Models by their names on the Hugging Face hub, where the network reaches it."""

from __future__ import annotations

import re
from pathlib import Path

from vlcam.utils.errors import one_line

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")
_WEIGHTS = (("*.safetensors",), ("pytorch_model*.bin",))
"""The file names of weights, the preferred kind first."""


def is_hub_name(model: str) -> bool:
    """Whether it has the form of a hub's name: ``owner/name``."""
    return _NAME.fullmatch(model) is not None


def downloaded(model: str) -> Path:
    """The local folder of a model of the hub, which is downloaded first unless it was before.

    Raises:
        ValueError: the hub has no such model, cannot be reached, or the disk is full.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        for weights in _WEIGHTS:
            folder = Path(snapshot_download(model, allow_patterns=[*_TEXTS, *weights]))
            if any(file for pattern in weights for file in folder.glob(pattern)):
                break
        return folder
    except RepositoryNotFoundError:
        raise ValueError(f"{model}: no such file or folder, nor a model of the hub") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        offline = not isinstance(error, HfHubHTTPError)
        reason = "cannot be reached (offline?)" if offline else f"refused it ({one_line(error)})"
        raise ValueError(
            f"{model}: no such file or folder, and the Hugging Face hub {reason}"
        ) from error
