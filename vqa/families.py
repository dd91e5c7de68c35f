"""The families of VQA models vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlcam.models import Family, configuration

if TYPE_CHECKING:
    from vlcam.adapter import Adapter


def _is_lstm_cnn(path: Path) -> bool:
    return configuration(path).get("architecture") == "lstm-cnn"


def _load_lstm_cnn(path: Path, layer: str | None) -> Adapter:
    from vqa import lstm_cnn_answerer

    return lstm_cnn_answerer.load(path, layer)


lstm_cnn = Family(
    name="lstm-cnn",
    kind="vqa",
    reference="deeper LSTM question + normalised image (Lu et al., 2015), by vlcam train vqa",
    recognises=_is_lstm_cnn,
    load=_load_lstm_cnn,
)
