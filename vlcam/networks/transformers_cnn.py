"""CNNs of transformers (ResNet, RegNet, ConvNeXt, ConvNeXt V2) as encoders.

A name holds all that their architecture needs, so that a model of ours that contains one can be
built again without the folder it came from: ``transformers:resnet``, then, as JSON, whatever
differs from transformers' defaults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.errors import one_line

PREFIX = "transformers:"

_STAGES = ("hidden_sizes", "depths", "hidden_act")
_RESNET = (*_STAGES, "embedding_size", "layer_type", "downsample_in_first_stage")
_CONVNEXT = (*_STAGES, "num_stages", "patch_size", "layer_norm_eps", "drop_path_rate")
_OPTIONS = {
    "resnet": (*_RESNET, "downsample_in_bottleneck"),
    "regnet": (*_RESNET, "groups_width"),
    "convnext": (*_CONVNEXT, "layer_scale_init_value"),
    "convnextv2": _CONVNEXT,
}
"""By ``model_type``, the settings of a configuration that shape the network."""

_CLASSIFIER = "classifier."


def is_one(folder: Path) -> bool:
    """Whether a folder holds such a network, as ``save_pretrained`` writes it."""
    kind = _configuration(folder).get("model_type")
    return isinstance(kind, str) and kind in _OPTIONS


def name_of(folder: Path) -> str:
    """The name by which :class:`vlcam.networks.encoder.Encoder` builds the network in a folder.

    Raises:
        ValueError: it is not one of those known here, or does not take colour photos.
    """
    if not is_one(folder):
        raise ValueError(f"{folder}: no CNN of transformers that is known: {', '.join(_OPTIONS)}")
    found = _configuration(folder)
    kind = found["model_type"]
    if found.get("num_channels", 3) != 3:
        raise ValueError(f"{folder}: it takes {found['num_channels']} channels, photos have 3")
    default = _kinds(kind)[0]().to_dict()
    own = {n: found[n] for n in _OPTIONS[kind] if n in found and found[n] != default.get(n)}
    return f"{PREFIX}{kind} {json.dumps(own)}" if own else f"{PREFIX}{kind}"


def build(name: str) -> nn.Module:
    """The network of that name: pixels (B, 3, H, W) to the input of its classifier (B, F).

    Raises:
        ValueError: there is no such network, or it has no such options.
    """
    kind, _, options = name.removeprefix(PREFIX).partition(" ")
    if kind not in _OPTIONS:
        raise ValueError(f"unknown CNN {name!r}; of transformers: {', '.join(_OPTIONS)}")
    try:
        own = json.loads(options or "{}")
        if not isinstance(own, dict) or not set(own) <= set(_OPTIONS[kind]):
            raise ValueError(f"known options: {', '.join(_OPTIONS[kind])}")
        config, model = _kinds(kind)
        return _Convnext(model(config(**own))) if "conv" in kind else _Resnet(model(config(**own)))
    except Exception as error:  # whatever options that do not fit make transformers stumble over
        raise ValueError(f"CNN {name}: {one_line(error)}") from error


def weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a folder, by their names in :func:`build`'s network, without a classifier.

    Raises:
        ValueError: they are missing, damaged, or those of another network.
    """
    from vlcam.formats.pretrained import load_module

    model = _kinds(_configuration(folder)["model_type"])[1]
    state: dict[str, Tensor] = load_module(model, folder, left_out=[_CLASSIFIER]).state_dict()
    return state


class _Resnet(nn.Module):
    """A ResNet or RegNet, its parts by transformers' names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embedder, self.encoder, self.pooler = model.embedder, model.encoder, model.pooler

    def forward(self, pixels: Tensor) -> Tensor:
        # Part by part: the checks and containers in between cannot be traced.
        maps = _through(self.embedder.children(), pixels)
        return self.pooler(_through(self.encoder.stages, maps)).flatten(1)


class _Convnext(nn.Module):
    """A ConvNeXt of either version, its parts by transformers' names."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.embeddings, self.encoder = model.embeddings, model.encoder
        self.layernorm = model.layernorm

    def forward(self, pixels: Tensor) -> Tensor:
        maps = _through(self.embeddings.children(), pixels)
        maps = _through(self.encoder.stages, maps)
        return self.layernorm(maps.mean((-2, -1)))


def _through(parts: Iterable[nn.Module], maps: Tensor) -> Tensor:
    for part in parts:
        maps = part(maps)
    return maps


def _kinds(kind: str) -> tuple[Any, Any]:
    """The classes of the configuration, and of the network without its classifier."""
    import transformers

    stem = {"resnet": "ResNet", "regnet": "RegNet", "convnext": "ConvNext"}
    name = stem.get(kind, "ConvNextV2")
    return getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}Model")


def _configuration(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``; empty where there is none that can be read."""
    try:
        found = read_json(folder / "config.json")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
