"""The vision transformer of BLIP (Li et al., 2022), of transformers: captioner and VQA share it."""

from __future__ import annotations

from typing import Any

from vlcam.patches import VisionTransformer, blocks

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of BLIP's own preprocessing
STD = (0.26862954, 0.26130258, 0.27577711)


def blip_vision(owner: str, vision: Any, layer: str | None) -> VisionTransformer:
    """A ``BlipVisionModel`` as part of a model, explained at ``vision_model.encoder.layers.N``,
    whose output (before the final normalisation) are the feature maps; None: the last.

    Raises:
        ValueError: there is no such layer.
    """
    return VisionTransformer(
        owner,
        vision.embeddings,
        blocks("vision_model.encoder.layers", vision.encoder.layers),
        vision.post_layernorm,
        vision.embeddings.patch_size,
        layer=layer,
    )
