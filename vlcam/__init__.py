"""vlcam: where an image captioner or a visual question answering model looked.

``vlcam.explain(model, photo)`` explains a caption word by word; ``vlcam.load`` finds a model;
``vlcam.Adapter`` is the contract for one's own. Everything is imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlcam.adapter import Adapter, FeatureMaps
    from vlcam.explaining import Encoded, explain, look
    from vlcam.explanation import Explanation
    from vlcam.models import load
    from vlcam.module_adapter import ModuleAdapter
    from vlcam.preprocess import Preprocess
    from vlcam.wrapping import wrap

_WHERE = {
    "Adapter": "vlcam.adapter",
    "Encoded": "vlcam.explaining",
    "Explanation": "vlcam.explanation",
    "FeatureMaps": "vlcam.adapter",
    "ModuleAdapter": "vlcam.module_adapter",
    "Preprocess": "vlcam.preprocess",
    "explain": "vlcam.explaining",
    "load": "vlcam.models",
    "look": "vlcam.explaining",
    "wrap": "vlcam.wrapping",
}

__all__ = [
    "Adapter",
    "Encoded",
    "Explanation",
    "FeatureMaps",
    "ModuleAdapter",
    "Preprocess",
    "explain",
    "load",
    "look",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vlcam' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value
