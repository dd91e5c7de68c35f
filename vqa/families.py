"""The families of VQA models vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.models import Family, later, of_architecture, of_transformers

lstm_cnn = Family(
    name="lstm-cnn",
    kind="vqa",
    reference="deeper LSTM question + normalised image (Lu et al., 2015), by vlcam train vqa",
    recognises=of_architecture("lstm-cnn"),
    load=later("vqa.cnn_answerer", "load_lstm_cnn"),
)

coattention = Family(
    name="coattention",
    kind="vqa",
    reference="hierarchical co-attention (Lu et al., 2016), by vlcam train vqa",
    recognises=of_architecture("coattention"),
    load=later("vqa.cnn_answerer", "load_coattention"),
)

glimpses = Family(
    name="glimpses",
    kind="vqa",
    reference="sums over glimpses (counts and places), by vlcam train vqa",
    recognises=of_architecture("glimpses"),
    load=later("vqa.glimpses_answerer", "load"),
    bundled={
        "scenes": (
            Path(__file__).parent / "bundled" / "scenes",
            "VQA model of rendered scenes (vlcam scenes), glimpses on the captioner's CNN",
        )
    },
)

lstm_cnn_torch7 = Family(
    name="lstm-cnn-torch7",
    kind="vqa",
    reference="VQA_LSTM_CNN (Lu et al., 2015): lstm.t7, data_prepro.json and Caffe's VGG",
    recognises=later("vqa.lstm_cnn_torch7", "recognises"),
    load=later("vqa.lstm_cnn_torch7", "load"),
)

vilt = Family(
    name="vilt",
    kind="vqa",
    reference="ViLT question answering of transformers (Kim et al., 2021), a local folder",
    recognises=of_transformers("vilt", "ViltForQuestionAnswering"),
    load=later("vqa.vilt", "load"),
)
