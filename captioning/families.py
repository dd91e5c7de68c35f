"""The families of captioners: a new one is a module with ``recognises(path)`` and ``load(path,
layer)``, and an entry here. The modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.formats.hub.published import LISTED, WORKED_OUT, Published
from vlcam.models import family, of_architecture, of_transformers

FAMILIES = (
    family(
        "neuraltalk",
        "captioner",
        "NeuralTalk2's architecture with any CNN, trained by vlcam train captioner",
        "captioning.models.neuraltalk.neuraltalk",
        recognises=of_architecture("neuraltalk"),
        bundled={
            "photos": (
                Path(__file__).parent / "bundled" / "photos",
                "captioner of real photos like Flickr8k's: people, dogs, sports, outdoors",
            ),
            "scenes": (
                Path(__file__).parent / "bundled" / "scenes",
                "captioner of rendered scenes (vlcam scenes), to check methods with: all is known",
            ),
        },
    ),
    family(
        "neuraltalk2-pytorch",
        "captioner",
        "fc, newfc, show_tell of ruotianluo's ImageCaptioning.pytorch: infos*.pkl, model.pth",
        "captioning.models.neuraltalk.neuraltalk2_pytorch",
    ),
    family(
        "neuraltalk2-torch7",
        "captioner",
        "Karpathy's NeuralTalk2, a checkpoint of Torch7 (.t7)",
        "captioning.models.neuraltalk.neuraltalk2_torch7",
    ),
    family(
        "blip",
        "captioner",
        "BLIP captioning of transformers (Li et al., 2022), a folder or hub name",
        "captioning.models.blip",
        recognises=of_transformers("blip", "BlipForConditionalGeneration"),
        published={
            "blip": Published(
                "Salesforce/blip-image-captioning-base",
                megabytes=991,
                licence="bsd-3-clause",
                memory=2.5,
                about="captioner of web photos and COCO, 247 million parameters",
                sources=f"size and licence: {LISTED}; memory: {WORKED_OUT}",
            )
        },
        attends=True,
    ),
    family(
        "im2txt",
        "captioner",
        "Show and Tell of Google's im2txt, a TensorFlow checkpoint and word_counts.txt",
        "captioning.models.im2txt.files",
    ),
    family(
        "tutorial-captioner",
        "captioner",
        "yunjey's PyTorch tutorial, encoder-*.ckpt, decoder-*.ckpt and vocab.pkl",
        "captioning.models.tutorial_captioner",
    ),
    family(
        "show-attend-tell",
        "captioner",
        "sgrvinod's Show, Attend and Tell, a checkpoint .pth.tar and WORDMAP_*.json",
        "captioning.models.show_attend_tell",
    ),
    family(
        "vision-encoder-decoder",
        "captioner",
        "vision encoder and text decoder of transformers (ViT + GPT-2), a folder or hub name",
        "captioning.models.vision_encoder_decoder",
        recognises=of_transformers("vision-encoder-decoder", "VisionEncoderDecoderModel"),
        published={
            "vit-gpt2": Published(
                "nlpconnect/vit-gpt2-image-captioning",
                megabytes=985,
                licence="apache-2.0",
                memory=2.5,
                about="captioner of COCO, 239 million parameters",
                sources=f"size and licence: {LISTED}; memory: {WORKED_OUT}",
            )
        },
        attends=True,
    ),
    family(
        "pix2struct",
        "captioner",
        "Pix2Struct captioning of transformers (Lee et al., 2023), a folder or hub name",
        "captioning.models.pix2struct",
        recognises=of_transformers("pix2struct", "Pix2StructForConditionalGeneration"),
    ),
)
