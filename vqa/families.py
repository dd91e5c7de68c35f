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


def _is_lstm_cnn_torch7(path: Path) -> bool:
    from vqa import lstm_cnn_torch7

    return lstm_cnn_torch7.recognises(path)


def _load_lstm_cnn_torch7(path: Path, layer: str | None) -> Adapter:
    from vqa import lstm_cnn_torch7

    return lstm_cnn_torch7.load(path, layer)


def _is_vilt(path: Path) -> bool:
    config = configuration(path)
    kinds = config.get("architectures")
    answers = "ViltForQuestionAnswering" in kinds if isinstance(kinds, list) else kinds is None
    return answers and config.get("model_type") == "vilt"


def _load_vilt(path: Path, layer: str | None) -> Adapter:
    from vqa import vilt

    return vilt.load(path, layer)


lstm_cnn = Family(
    name="lstm-cnn",
    kind="vqa",
    reference="deeper LSTM question + normalised image (Lu et al., 2015), by vlcam train vqa",
    recognises=_is_lstm_cnn,
    load=_load_lstm_cnn,
)

lstm_cnn_torch7 = Family(
    name="lstm-cnn-torch7",
    kind="vqa",
    reference="VQA_LSTM_CNN (Lu et al., 2015): lstm.t7, data_prepro.json and Caffe's VGG",
    recognises=_is_lstm_cnn_torch7,
    load=_load_lstm_cnn_torch7,
)

vilt = Family(
    name="vilt",
    kind="vqa",
    reference="ViLT question answering of transformers (Kim et al., 2021), a local folder",
    recognises=_is_vilt,
    load=_load_vilt,
)
