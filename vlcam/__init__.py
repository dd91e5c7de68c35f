"""vlcam: where an image captioner or a visual question answering model looked.

``vlcam.explain(model, photo)`` explains a caption word by word; ``vlcam.load`` finds a model;
``vlcam.Adapter`` is the contract for one's own. Everything is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlcam.adapters.adapter import Adapter, FeatureMaps
    from vlcam.adapters.module import ModuleAdapter
    from vlcam.adapters.wrap import wrap
    from vlcam.attribution.encoding import Encoded, look
    from vlcam.choosing.choose import choose
    from vlcam.explaining import explain
    from vlcam.explanation.explanation import Explanation
    from vlcam.models import load
    from vlcam.photo.preprocess import Preprocess

    __version__: str

_WHERE = {
    "Adapter": "vlcam.adapters.adapter",
    "Encoded": "vlcam.attribution.encoding",
    "Explanation": "vlcam.explanation.explanation",
    "FeatureMaps": "vlcam.adapters.adapter",
    "ModuleAdapter": "vlcam.adapters.module",
    "Preprocess": "vlcam.photo.preprocess",
    "choose": "vlcam.choosing.choose",
    "explain": "vlcam.explaining",
    "load": "vlcam.models",
    "look": "vlcam.attribution.encoding",
    "wrap": "vlcam.adapters.wrap",
}

__all__ = [
    "Adapter",
    "Encoded",
    "Explanation",
    "FeatureMaps",
    "ModuleAdapter",
    "Preprocess",
    "choose",
    "explain",
    "load",
    "look",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("importlib.metadata").version("vlcam")
    elif name == "testing":
        value = import_module("vlcam.testing")
    elif name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'vlcam' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "testing", "__version__"]
