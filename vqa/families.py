"""The families of VQA models: a new one is a module with ``recognises(path)`` and ``load(path,
layer)``, and an entry here. The modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.formats.hub.published import LISTED, WORKED_OUT, Published
from vlcam.models import CHAT, MATCHER, any_of, family, of_architecture, of_transformers

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
            "photos": (
                Path(__file__).parent / "bundled" / "photos",
                "VQA model of real photos like Flickr8k's: who, what, what colour, where",
            ),
            "scenes": (
                Path(__file__).parent / "bundled" / "scenes",
                "VQA model of rendered scenes (vlcam scenes), to check methods with: all is known",
            ),
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
        published={
            "vilt": Published(
                "dandelin/vilt-b32-finetuned-vqa",
                megabytes=471,
                licence="apache-2.0",
                memory=1.3,
                about="VQA model of 3,129 answers, trained on VQA v2, 118 million parameters",
                sources=f"size and licence: {LISTED}; memory: measured, of random weights",
            )
        },
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
        published={
            "qwen2.5-vl-3b": Published(
                "Qwen/Qwen2.5-VL-3B-Instruct",
                megabytes=7521,
                licence="qwen-research (no commercial use)",
                memory=11.0,
                about="chat model for captions and questions, 3.75 billion parameters",
                sources=f"size: {LISTED}, of a copy; licence: from memory; memory: {WORKED_OUT}",
            )
        },
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
        published={
            "smolvlm-256m": Published(
                "HuggingFaceTB/SmolVLM-256M-Instruct",
                megabytes=518,
                licence="apache-2.0",
                memory=3.0,
                about="small chat model for captions and questions, 256 million parameters",
                sources=f"size: {LISTED}, of a copy of it; licence: its card; memory: {WORKED_OUT}",
            )
        },
    ),
    family(
        "blip-vqa",
        "vqa",
        "BLIP question answering of transformers (Li et al., 2022), a folder or hub name",
        "vqa.models.blip",
        recognises=of_transformers("blip", "BlipForQuestionAnswering"),
        published={
            "blip-vqa": Published(
                "Salesforce/blip-vqa-base",
                megabytes=1541,
                licence="bsd-3-clause",
                memory=3.0,
                about="VQA model that writes answers, of VQA v2, 385 million parameters",
                sources=f"size and licence: {LISTED}; memory: {WORKED_OUT}",
            )
        },
        attends=True,
    ),
    family(
        "clip",
        MATCHER,
        "CLIP of transformers (Radford et al., 2021), texts compared with a photo, a folder or hub"
        " name",
        "vqa.models.clip",
        recognises=of_transformers("clip", "CLIPModel"),
        published={
            "clip": Published(
                "openai/clip-vit-base-patch32",
                megabytes=609,
                licence="not stated there (OpenAI's code: MIT)",
                memory=1.5,
                about="scores of texts beside a photo, 151 million parameters",
                sources=f"size: {LISTED}, of copies; licence: from memory; memory: {WORKED_OUT}",
            )
        },
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
