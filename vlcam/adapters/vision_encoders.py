"""Vision models of transformers as parts of larger models, cut behind any of their blocks.

Where the blocks are is looked up in the module, as it differs between versions of transformers.
What comes before and behind them is not, so only the kinds listed here are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from transformers import BlipImageProcessor, CLIPImageProcessor

from vlcam.adapters.vision_transformer import Step, VisionTransformer, blocks

_NORMALISED: dict[str, str | None] = {
    "vit": "layernorm",
    "deit": "layernorm",
    "vit_msn": "layernorm",
    "beit": "layernorm",
    "dinov2": "layernorm",
    "dinov2_with_registers": "layernorm",
    "swin": "layernorm",
    "swinv2": "layernorm",
    "donut-swin": None,
    "clip_vision_model": None,
    "siglip_vision_model": "post_layernorm",
}
"""By ``model_type``, the normalisation behind the last block, if there is one."""

_SWIN = ("swin", "swinv2", "donut-swin")

_ANY_SIZE = ("beit", "dinov2", "dinov2_with_registers")
"""Kinds that interpolate their position embeddings by themselves."""


def vision_encoder(owner: str, name: str, encoder: Any, layer: str | None) -> VisionTransformer:
    """A vision model of transformers, explained behind one of its blocks.

    Args:
        owner: name of the whole model, for errors.
        name: of the encoder within the model; names of its layers begin with it.
        encoder: the vision model.
        layer: name of a block; None: the last.

    Raises:
        ValueError: there is no such layer; the vision model is of a kind that is not listed here.
    """
    kind = encoder.config.model_type
    if kind not in _NORMALISED:
        known = ", ".join(_NORMALISED)
        raise ValueError(f"{owner}: its photos go through {kind}; only {known} are known here")
    place, modules = _blocks(encoder)
    norm = _NORMALISED[kind]
    return VisionTransformer(
        owner,
        _embed(encoder),
        list(_steps(kind, f"{name}.{place}", modules, encoder)),
        getattr(encoder, norm) if norm else nn.Identity(),
        patch=_pair(encoder.config.patch_size),
        others=_others(kind, encoder.config),
        fills=kind in _SWIN,
        layer=layer,
    )


def blip_vision(owner: str, vision: Any, layer: str | None) -> VisionTransformer:
    """A ``BlipVisionModel``, explained behind one of its blocks, ``vision_model.encoder.layers.N``
    (before the final normalisation); None: the last.

    Raises:
        ValueError: there is no such layer.
    """
    return VisionTransformer(
        owner,
        vision.embeddings,
        blocks("vision_model.encoder.layers", vision.encoder.layers),
        vision.post_layernorm,
        patch=vision.embeddings.patch_size,
        layer=layer,
    )


def blip_processor(module: Any) -> Any:
    """BLIP's image processor, for a folder that has none."""
    height, width = image_size(module.vision_model)
    return BlipImageProcessor(size={"height": height, "width": width})


def clip_processor(module: Any) -> Any:
    """CLIP's image processor, for a folder that has none: of a model that sees with CLIP's vision
    transformer."""
    side = module.config.vision_config.image_size
    size = {"height": side, "width": side}
    return CLIPImageProcessor(size={"shortest_edge": side}, crop_size=size)


def only_size(encoder: Any) -> tuple[int, int] | None:
    """(height, width) of the photos a vision model takes; None: any."""
    config = encoder.config
    return None if config.model_type in _ANY_SIZE else _pair(config.image_size)


def image_size(encoder: Any) -> tuple[int, int]:
    """(height, width) of the photos a vision model was made for."""
    return _pair(encoder.config.image_size)


def _blocks(encoder: Any) -> tuple[str, Any]:
    """The encoder's list of blocks or stages (its first list of modules), and its name."""
    return next(
        (place, module)
        for place, module in encoder.named_modules()
        if isinstance(module, nn.ModuleList) and place.rpartition(".")[2] in ("layers", "layer")
    )


def _embed(encoder: Any) -> Callable[[Tensor], Tensor]:
    """Pixels to the tokens that the first block reads."""
    before = getattr(encoder, "pre_layrnorm", nn.Identity())

    def embed(pixels: Tensor) -> Tensor:
        found = encoder.embeddings(pixels)
        tokens: Tensor = before(found[0] if isinstance(found, tuple) else found)
        return tokens

    return embed


def _steps(kind: str, name: str, modules: Any, encoder: Any) -> Iterator[Step]:
    """The encoder's blocks, by the kind of encoder."""
    if kind == "beit":
        yield from _beit(name, modules, encoder)
    elif hasattr(modules[0], "blocks"):
        for i, stage in enumerate(modules):
            yield from _stage(f"{name}.{i}", stage)
    else:
        yield from blocks(name, modules)


def _stage(name: str, stage: Any) -> Iterator[Step]:
    """A stage of Swin: blocks with attention in windows, then patches are merged four by four."""

    def run(module: Any) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        def step(tokens: Tensor, size: tuple[int, int]) -> Tensor:
            found = module(tokens, size)
            return found[0] if isinstance(found, tuple) else found

        return step

    for i, block in enumerate(stage.blocks):
        yield Step(f"{name}.blocks.{i}", run(block))
    if stage.downsample is not None:
        yield Step(f"{name}.downsample", run(stage.downsample), stride=2)


def _beit(name: str, modules: Any, encoder: Any) -> Iterator[Step]:
    """BEiT's blocks: a bias for where the patches lie is added to their attention."""
    height, width = _pair(encoder.config.patch_size)
    shared = encoder.shared_position_bias

    def run(block: Any) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        def step(tokens: Tensor, size: tuple[int, int]) -> Tensor:
            bias = None if shared is None else shared(size, dim_size=tokens.shape[1])
            resolution = (size[0] * height, size[1] * width)
            found: Tensor = block(tokens, attention_mask=bias, resolution=resolution)
            return found

        return step

    for i, block in enumerate(modules):
        yield Step(f"{name}.{i}", run(block))


def _others(kind: str, config: Any) -> int:
    """How many tokens come before the patches': those of the class, distillation, registers."""
    if kind in (*_SWIN, "siglip_vision_model"):
        return 0
    if kind == "deit":
        return 2
    return 1 + getattr(config, "num_register_tokens", 0)


def _pair(size: Any) -> tuple[int, int]:
    """A side, or a height and a width."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width
