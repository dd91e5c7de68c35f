"""The families of captioners vlcam finds here. Their modules are imported when first needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlcam.models import Family, configuration

if TYPE_CHECKING:
    from vlcam.adapter import Adapter


def _is_neuraltalk(path: Path) -> bool:
    return configuration(path).get("architecture") == "neuraltalk"


def _load_neuraltalk(path: Path, layer: str | None) -> Adapter:
    from captioning import neuraltalk_captioner

    return neuraltalk_captioner.load(path, layer)


def _is_neuraltalk2_pytorch(path: Path) -> bool:
    from captioning import neuraltalk2_pytorch

    return neuraltalk2_pytorch.recognises(path)


def _load_neuraltalk2_pytorch(path: Path, layer: str | None) -> Adapter:
    from captioning import neuraltalk2_pytorch

    return neuraltalk2_pytorch.load(path, layer)


def _is_blip(path: Path) -> bool:
    config = configuration(path)
    kinds = config.get("architectures")
    writes = "BlipForConditionalGeneration" in kinds if isinstance(kinds, list) else kinds is None
    return writes and config.get("model_type") == "blip"


def _load_blip(path: Path, layer: str | None) -> Adapter:
    from captioning import blip

    return blip.load(path, layer)


neuraltalk = Family(
    name="neuraltalk",
    kind="captioner",
    reference="NeuralTalk2's architecture with any CNN, trained by vlcam train captioner",
    recognises=_is_neuraltalk,
    load=_load_neuraltalk,
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
    recognises=_is_neuraltalk2_pytorch,
    load=_load_neuraltalk2_pytorch,
)

blip = Family(
    name="blip",
    kind="captioner",
    reference="BLIP captioning of transformers (Li et al., 2022), a local folder",
    recognises=_is_blip,
    load=_load_blip,
)
