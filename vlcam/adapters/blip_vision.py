"""The vision transformer of BLIP (Li et al., 2022), of transformers: captioner and VQA share it."""

from __future__ import annotations

from typing import Any

from transformers import BlipImageProcessor

from vlcam.adapters.vision_transformer import VisionTransformer, blocks


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


def only_size(vision: Any) -> tuple[int, int]:
    """(height, width) of the photos it takes."""
    side: int = vision.config.image_size
    return side, side


def default_processor(module: Any) -> Any:
    """The image processor of a model, where its folder has none."""
    height, width = only_size(module.vision_model)
    return BlipImageProcessor(size={"height": height, "width": width})
