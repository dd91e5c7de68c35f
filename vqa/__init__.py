"""Visual question answering models that vlcam can explain, and how to train one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from vqa.answering.answerer import Answerer

    __version__: str

__all__ = ["load"]


def load(model: str | Path, layer: str | None = None, yes: bool = False) -> Answerer:
    """A VQA model by the name of a bundled or a published one, or from a file or folder.

    Args:
        layer: the layer to explain; None means the model's own default.
        yes: fetch a published one without asking, as for :func:`vlcam.load`.

    Raises:
        ValueError: no such model, not recognised as a VQA model, or damaged.
    """
    from vlcam.models import load
    from vqa.answering.answerer import Answerer

    return cast(Answerer, load(model, layer, kind="vqa", yes=yes))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        import vlcam

        return vlcam.__version__
    raise AttributeError(f"module 'vqa' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
