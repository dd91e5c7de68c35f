"""The families of captioners vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.models import Family, later, of_architecture, of_transformers

neuraltalk = Family(
    name="neuraltalk",
    kind="captioner",
    reference="NeuralTalk2's architecture with any CNN, trained by vlcam train captioner",
    recognises=of_architecture("neuraltalk"),
    load=later("captioning.models.neuraltalk.neuraltalk_captioner", "load"),
    bundled={
        "scenes": (
            Path(__file__).parent / "bundled" / "scenes",
            "captioner of rendered scenes (vlcam scenes), trained from scratch",
        )
    },
)

neuraltalk2_pytorch = Family(
    name="neuraltalk2-pytorch",
    kind="captioner",
    reference="fc, newfc, show_tell of ruotianluo's ImageCaptioning.pytorch: infos*.pkl, model.pth",
    recognises=later("captioning.models.neuraltalk.neuraltalk2_pytorch", "recognises"),
    load=later("captioning.models.neuraltalk.neuraltalk2_pytorch", "load"),
)

neuraltalk2_torch7 = Family(
    name="neuraltalk2-torch7",
    kind="captioner",
    reference="Karpathy's NeuralTalk2, a checkpoint of Torch7 (.t7)",
    recognises=later("captioning.models.neuraltalk.neuraltalk2_torch7", "recognises"),
    load=later("captioning.models.neuraltalk.neuraltalk2_torch7", "load"),
)

blip = Family(
    name="blip",
    kind="captioner",
    reference="BLIP captioning of transformers (Li et al., 2022), a folder or hub name",
    recognises=of_transformers("blip", "BlipForConditionalGeneration"),
    load=later("captioning.models.blip", "load"),
    attends=True,
)

im2txt = Family(
    name="im2txt",
    kind="captioner",
    reference="Show and Tell of Google's im2txt, a TensorFlow checkpoint and word_counts.txt",
    recognises=later("captioning.models.im2txt.model", "recognises"),
    load=later("captioning.models.im2txt.model", "load"),
)

tutorial_captioner = Family(
    name="tutorial-captioner",
    kind="captioner",
    reference="yunjey's PyTorch tutorial, encoder-*.ckpt, decoder-*.ckpt and vocab.pkl",
    recognises=later("captioning.models.tutorial_captioner", "recognises"),
    load=later("captioning.models.tutorial_captioner", "load"),
)

show_attend_tell = Family(
    name="show-attend-tell",
    kind="captioner",
    reference="sgrvinod's Show, Attend and Tell, a checkpoint .pth.tar and WORDMAP_*.json",
    recognises=later("captioning.models.show_attend_tell", "recognises"),
    load=later("captioning.models.show_attend_tell", "load"),
)

vision_encoder_decoder = Family(
    name="vision-encoder-decoder",
    kind="captioner",
    reference="vision encoder and text decoder of transformers (ViT + GPT-2), a folder or hub name",
    recognises=of_transformers("vision-encoder-decoder", "VisionEncoderDecoderModel"),
    load=later("captioning.models.vision_encoder_decoder", "load"),
    attends=True,
)

pix2struct = Family(
    name="pix2struct",
    kind="captioner",
    reference="Pix2Struct captioning of transformers (Lee et al., 2023), a folder or hub name",
    recognises=of_transformers("pix2struct", "Pix2StructForConditionalGeneration"),
    load=later("captioning.models.pix2struct", "load"),
)
