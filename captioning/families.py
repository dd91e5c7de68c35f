"""The families of captioners vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path

from vlcam.models import Family, later, of_architecture, of_transformers

neuraltalk = Family(
    name="neuraltalk",
    kind="captioner",
    reference="NeuralTalk2's architecture with any CNN, trained by vlcam train captioner",
    recognises=of_architecture("neuraltalk"),
    load=later("captioning.neuraltalk_captioner", "load"),
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
    reference="FC models of ruotianluo's ImageCaptioning.pytorch, infos_*.pkl and model*.pth",
    recognises=later("captioning.neuraltalk2_pytorch", "recognises"),
    load=later("captioning.neuraltalk2_pytorch", "load"),
)

neuraltalk2_torch7 = Family(
    name="neuraltalk2-torch7",
    kind="captioner",
    reference="Karpathy's NeuralTalk2, a checkpoint of Torch7 (.t7)",
    recognises=later("captioning.neuraltalk2_torch7", "recognises"),
    load=later("captioning.neuraltalk2_torch7", "load"),
)

blip = Family(
    name="blip",
    kind="captioner",
    reference="BLIP captioning of transformers (Li et al., 2022), a local folder",
    recognises=of_transformers("blip", "BlipForConditionalGeneration"),
    load=later("captioning.blip", "load"),
)
