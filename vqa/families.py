"""The families of VQA models vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.models import CHAT, Family, any_of, later, of_architecture, of_transformers

lstm_cnn = Family(
    name="lstm-cnn",
    kind="vqa",
    reference="deeper LSTM question + normalised image (Lu et al., 2015), by vlcam train vqa",
    recognises=of_architecture("lstm-cnn"),
    load=later("vqa.answering.cnn_answerer", "load_lstm_cnn"),
)

coattention = Family(
    name="coattention",
    kind="vqa",
    reference="hierarchical co-attention (Lu et al., 2016), by vlcam train vqa",
    recognises=of_architecture("coattention"),
    load=later("vqa.answering.cnn_answerer", "load_coattention"),
)

glimpses = Family(
    name="glimpses",
    kind="vqa",
    reference="sums over glimpses (counts and places), by vlcam train vqa",
    recognises=of_architecture("glimpses"),
    load=later("vqa.models.glimpses_answerer", "load"),
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
    recognises=later("vqa.models.lstm_cnn.torch7", "recognises"),
    load=later("vqa.models.lstm_cnn.torch7", "load"),
)

basic_vqa = Family(
    name="basic-vqa",
    kind="vqa",
    reference="tbmoon's basic_vqa (VGG-19 and LSTM): model-epoch-*.ckpt and vocab_*.txt",
    recognises=later("vqa.models.basic_vqa", "recognises"),
    load=later("vqa.models.basic_vqa", "load"),
)

hiecoatt_torch7 = Family(
    name="hiecoatt-torch7",
    kind="vqa",
    reference="HieCoAttenVQA (Lu et al., 2016): .t7, vqa_data_prepro.json, VGG-19 or ResNet",
    recognises=later("vqa.models.coattention.hiecoatt_torch7", "recognises"),
    load=later("vqa.models.coattention.hiecoatt_torch7", "load"),
)

coattention_pytorch = Family(
    name="coattention-pytorch",
    kind="vqa",
    reference="SkyOL5's VQA-CoAttention: .pth.tar, q2i.pkl, i2a.pkl and torchvision's resnet18.pth",
    recognises=later("vqa.models.coattention.skyol5_pytorch", "recognises"),
    load=later("vqa.models.coattention.skyol5_pytorch", "load"),
)

vilt = Family(
    name="vilt",
    kind="vqa",
    reference="ViLT question answering of transformers (Kim et al., 2021), a folder or hub name",
    recognises=of_transformers("vilt", "ViltForQuestionAnswering"),
    load=later("vqa.models.vilt", "load"),
    attends=True,
)

vqa_pytorch = Family(
    name="vqa-pytorch",
    kind="vqa",
    reference="MLB and MUTAN of Cadene's vqa.pytorch: best_model.pth.tar, pickles of words",
    recognises=later("vqa.models.vqa_pytorch.model", "recognises"),
    load=later("vqa.models.vqa_pytorch.model", "load"),
)

lxmert = Family(
    name="lxmert",
    kind="vqa",
    reference="LXMERT question answering of transformers (Tan and Bansal, 2019), a folder or hub"
    " name; PHOTO.regions.npz beside each photo",
    recognises=of_transformers("lxmert", "LxmertForQuestionAnswering"),
    load=later("vqa.models.lxmert.lxmert", "load"),
    attends=True,
)

llava = Family(
    name="llava",
    kind="chat",
    reference="LLaVA of transformers (Liu et al., 2023), a folder or hub name",
    recognises=of_transformers("llava", "LlavaForConditionalGeneration"),
    load=later("vqa.models.chat.llava", "load"),
)

qwen_vl = Family(
    name="qwen-vl",
    kind="chat",
    reference="Qwen2-VL, Qwen2.5-VL and Qwen3-VL of transformers, a folder or hub name",
    recognises=any_of(
        of_transformers("qwen2_vl", "Qwen2VLForConditionalGeneration"),
        of_transformers("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        of_transformers("qwen3_vl", "Qwen3VLForConditionalGeneration"),
    ),
    load=later("vqa.models.chat.qwen_vl", "load"),
)

smolvlm = Family(
    name="smolvlm",
    kind="chat",
    reference="SmolVLM and Idefics3 of transformers, a folder or hub name",
    recognises=any_of(
        of_transformers("smolvlm", "SmolVLMForConditionalGeneration"),
        of_transformers("idefics3", "Idefics3ForConditionalGeneration"),
    ),
    load=later("vqa.models.chat.smolvlm", "load"),
)

blip_vqa = Family(
    name="blip-vqa",
    kind="vqa",
    reference="BLIP question answering of transformers (Li et al., 2022), a folder or hub name",
    recognises=of_transformers("blip", "BlipForQuestionAnswering"),
    load=later("vqa.models.blip", "load"),
    attends=True,
)

git = Family(
    name="git",
    kind=CHAT,
    reference="GIT of transformers (Wang et al., 2022), a folder or hub name",
    recognises=of_transformers("git", "GitForCausalLM"),
    load=later("vqa.models.git", "load"),
)
