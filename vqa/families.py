"""The families of VQA models: a new one is a module with ``recognises(path)`` and ``load(path,
layer)``, and an entry here. The modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.models import CHAT, any_of, family, of_architecture, of_transformers

FAMILIES = (
    family(
        "lstm-cnn",
        "vqa",
        "deeper LSTM question + normalised image (Lu et al., 2015), by vlcam train vqa",
        "vqa.models.lstm_cnn.model",
        recognises=of_architecture("lstm-cnn"),
    ),
    family(
        "coattention",
        "vqa",
        "hierarchical co-attention (Lu et al., 2016), by vlcam train vqa",
        "vqa.models.coattention.model",
        recognises=of_architecture("coattention"),
    ),
    family(
        "glimpses",
        "vqa",
        "sums over glimpses (counts and places), by vlcam train vqa",
        "vqa.models.glimpses",
        recognises=of_architecture("glimpses"),
        bundled={
            "scenes": (
                Path(__file__).parent / "bundled" / "scenes",
                "VQA model of rendered scenes (vlcam scenes), glimpses on the captioner's CNN",
            )
        },
    ),
    family(
        "lstm-cnn-torch7",
        "vqa",
        "VQA_LSTM_CNN (Lu et al., 2015): lstm.t7, data_prepro.json and Caffe's VGG",
        "vqa.models.lstm_cnn.torch7",
    ),
    family(
        "basic-vqa",
        "vqa",
        "tbmoon's basic_vqa (VGG-19 and LSTM): model-epoch-*.ckpt and vocab_*.txt",
        "vqa.models.basic_vqa",
    ),
    family(
        "hiecoatt-torch7",
        "vqa",
        "HieCoAttenVQA (Lu et al., 2016): .t7, vqa_data_prepro.json, VGG-19 or ResNet",
        "vqa.models.coattention.hiecoatt_torch7",
    ),
    family(
        "coattention-pytorch",
        "vqa",
        "SkyOL5's VQA-CoAttention: .pth.tar, q2i.pkl, i2a.pkl and torchvision's resnet18.pth",
        "vqa.models.coattention.skyol5_pytorch",
    ),
    family(
        "vilt",
        "vqa",
        "ViLT question answering of transformers (Kim et al., 2021), a folder or hub name",
        "vqa.models.vilt",
        recognises=of_transformers("vilt", "ViltForQuestionAnswering"),
        attends=True,
    ),
    family(
        "vqa-pytorch",
        "vqa",
        "MLB and MUTAN of Cadene's vqa.pytorch: best_model.pth.tar, pickles of words",
        "vqa.models.vqa_pytorch.files",
    ),
    family(
        "lxmert",
        "vqa",
        "LXMERT question answering of transformers (Tan and Bansal, 2019), a folder or hub"
        " name; PHOTO.regions.npz beside each photo",
        "vqa.models.lxmert.lxmert",
        recognises=of_transformers("lxmert", "LxmertForQuestionAnswering"),
        attends=True,
    ),
    family(
        "llava",
        "chat",
        "LLaVA of transformers (Liu et al., 2023), a folder or hub name",
        "vqa.models.chat.llava",
        recognises=of_transformers("llava", "LlavaForConditionalGeneration"),
    ),
    family(
        "qwen-vl",
        "chat",
        "Qwen2-VL, Qwen2.5-VL and Qwen3-VL of transformers, a folder or hub name",
        "vqa.models.chat.qwen_vl",
        recognises=any_of(
            of_transformers("qwen2_vl", "Qwen2VLForConditionalGeneration"),
            of_transformers("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
            of_transformers("qwen3_vl", "Qwen3VLForConditionalGeneration"),
        ),
    ),
    family(
        "smolvlm",
        "chat",
        "SmolVLM and Idefics3 of transformers, a folder or hub name",
        "vqa.models.chat.smolvlm",
        recognises=any_of(
            of_transformers("smolvlm", "SmolVLMForConditionalGeneration"),
            of_transformers("idefics3", "Idefics3ForConditionalGeneration"),
        ),
    ),
    family(
        "blip-vqa",
        "vqa",
        "BLIP question answering of transformers (Li et al., 2022), a folder or hub name",
        "vqa.models.blip",
        recognises=of_transformers("blip", "BlipForQuestionAnswering"),
        attends=True,
    ),
    family(
        "git",
        CHAT,
        "GIT of transformers (Wang et al., 2022), a folder or hub name",
        "vqa.models.git",
        recognises=of_transformers("git", "GitForCausalLM"),
    ),
)
