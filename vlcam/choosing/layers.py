"""Which layers of a model are worth a look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlcam.adapters.adapter import Adapter, Prompt
from vlcam.adapters.module import ModuleAdapter
from vlcam.adapters.scores import decoded
from vlcam.attribution.encoding import encode
from vlcam.networks.encoder import Encoder
from vlcam.utils.untouched import untouched

_STEPS = (nn.Conv2d, nn.Dropout, nn.Identity, nn.AdaptiveAvgPool2d)

_SIZES = 3
"""Of how many sizes of feature maps, from the smallest on, a layer is compared."""


def depths(model: Adapter) -> list[str]:
    """The layers worth a look, from the first to the last: rectified maps, poolings and blocks;
    no bare convolutions or normalisations. Of several names of one, the outermost. Of a vision
    transformer its blocks.

    Raises:
        ValueError: the model is not built around one of our CNNs, and does not list its blocks.
    """
    if model.layers:
        return list(model.layers)
    found = _of_encoder(model)
    if found is None:
        raise ValueError(f"{model.name}: its layers are not known here; name them with --layers")
    return [one.name for one in found]


def worth_comparing(model: Adapter, pixels: Tensor, prompt: Prompt) -> list[str]:
    """A few layers, from the first to the last, with the model's own among them: of a CNN the last
    of each of the smallest sizes of feature maps, and the one before its own; of a transformer some
    blocks of its second half. Of a model of which no other layer is known, its own.

    Args:
        pixels: an input (1, 3, H, W): what gives feature maps in a wrapped module is seen where it
            is run on it, under ``prompt``.
    """
    if model.layers:
        return _second_half(list(model.layers), model.layer)
    found = _of_encoder(model)
    if found is None and isinstance(model, ModuleAdapter):
        seen = _of_module(model, pixels, prompt)
        own = next((one for one in seen if one.name == model.layer), None)
        if own is None:  # feature maps of one cell
            return [model.layer]
        if len(own.size) == 1:  # tokens
            return _second_half([o.name for o in seen if o.like(own)], model.layer)
        found = _outermost(seen, own)
    return [model.layer] if found is None else _of_each_size(found, model.layer)


@dataclass(frozen=True)
class _Layer:
    """A layer that runs once.

    Attributes:
        size: (rows, columns) of its feature maps; (count,) of tokens.
        kind: its class.
        value: which tensor it gives: several names may be of one.
    """

    name: str
    size: tuple[int, ...]
    kind: type[nn.Module] | None = None
    value: int = 0

    def like(self, other: _Layer) -> bool:
        return (self.size, self.kind) == (other.size, other.kind)


def _of_encoder(model: Adapter) -> list[_Layer] | None:
    """Of a model around one of our CNNs; None: it is none."""
    encoder: Any = getattr(model.module, "encoder", None)
    if not isinstance(encoder, Encoder):
        return None
    modules = dict(encoder.net.named_modules())
    return [
        _Layer(layer.name, layer.shape[1:])
        for layer in encoder.distinct_layers()
        if not _is_step(type(modules.get(layer.name))) and layer.shape[1:] != (1, 1)
    ]


def _is_step(kind: type | None) -> bool:
    """Whether modules of a class are a part of what makes a layer (timm's normalisations, which
    hold the activation, are more)."""
    return kind is not None and (issubclass(kind, _STEPS) or kind is nn.BatchNorm2d)


def _of_module(model: ModuleAdapter, pixels: Tensor, prompt: Prompt) -> list[_Layer]:
    """What gives feature maps, or tokens, when a wrapped module runs; in the order in which they
    are done."""
    prompts = [prompt]
    features = encode(model, pixels, prompts)
    with _outputs(model.module) as outputs, untouched(model.module), torch.no_grad():
        decoded(model, features, prompts)
    modules = dict(model.module.named_modules())
    found = []
    for name, values in outputs.items():
        value = values[0]
        size = tuple(value.shape[2:]) if value.ndim == 4 else (value.shape[1],)
        if len(values) == 1 and size not in ((1, 1), (1,)):
            found.append(_Layer(name, size, type(modules[name]), id(value)))
    return found


@contextmanager
def _outputs(module: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """What each named part gives inside: feature maps (B, K, u, v) and tokens (B, L, K)."""
    found: dict[str, list[Tensor]] = {}
    handles = []

    def keep(name: str, output: Any) -> None:
        first = output[0] if isinstance(output, tuple | list) and output else output
        if isinstance(first, Tensor) and first.ndim in (3, 4):
            found.setdefault(name, []).append(first)

    try:
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                hook = part.register_forward_hook(lambda _m, _i, out, name=name: keep(name, out))
                handles.append(hook)
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _outermost(seen: list[_Layer], own: _Layer) -> list[_Layer]:
    """Of all layers with feature maps those worth a look, one name each."""
    maps = [one for one in seen if len(one.size) == 2]
    good = [one for one in maps if not _is_step(one.kind) or one.kind is own.kind]
    names = {}
    for one in sorted(good, key=lambda one: one.name.count("."), reverse=True):
        if not _is_trunk(one, good):
            names[one.value] = one  # the outermost comes last
    names[own.value] = own
    return [one for one in good if names.get(one.value) is one]


def _is_trunk(one: _Layer, among: Sequence[_Layer]) -> bool:
    """Whether more than half of the others are parts of it."""
    parts = [other for other in among if other.name.startswith(f"{one.name}.")]
    return 2 * len(parts) > len(among)


def _of_each_size(found: Sequence[_Layer], own: str) -> list[str]:
    """The last layer of each of the smallest sizes; the model's own, and the one before it."""
    among = [one for one in found if not _is_trunk(one, found) or one.name == own]
    outer = [one for one in among if one.name == own or not _is_part(one, among, own)]
    last = {one.size: one.name for one in outer}
    chosen = {*list(last.values())[-_SIZES:], own}
    names = [one.name for one in outer]
    if own in names and names.index(own):
        chosen.add(names[names.index(own) - 1])
    elif own not in names and names:  # behind the CNN
        chosen.add(names[-1])
    return [*(name for name in names if name in chosen), *([own] if own not in names else [])]


def _is_part(one: _Layer, among: Sequence[_Layer], own: str) -> bool:
    """Of another one; the model's own layer is a whole, and what it is part of is not looked at."""
    wholes = (own, *(other.name for other in among if not own.startswith(f"{other.name}.")))
    return any(one.name.startswith(f"{whole}.") for whole in wholes)


def _second_half(blocks: list[str], own: str) -> list[str]:
    count = len(blocks)
    places = {count - 1, count - 2, 3 * count // 4 - 1, count // 2}
    chosen = {blocks[place] for place in places if 0 <= place < count}
    known = blocks if own in blocks else [*blocks, own]
    return [name for name in known if name in {*chosen, own}]
