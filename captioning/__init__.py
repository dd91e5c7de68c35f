"""Image captioners that vlcam can explain, and how to train one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from captioning.language.captioner import Captioner

    __version__: str

__all__ = ["load"]


def load(model: str | Path, layer: str | None = None, yes: bool = False) -> Captioner:
    """A captioner by the name of a bundled or a published one, or from a file or folder.

    Args:
        layer: the layer to explain; None means the model's own default.
        yes: fetch a published one without asking, as for :func:`vlcam.load`.

    Raises:
        ValueError: no such model, not recognised as a captioner, or damaged.
    """
    from captioning.language.captioner import Captioner
    from vlcam.models import load

    return cast(Captioner, load(model, layer, kind="captioner", yes=yes))


def __getattr__(name: str) -> Any:
    if name == "__version__":
        import vlcam

        return vlcam.__version__
    raise AttributeError(f"module 'captioning' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
