"""VGG networks in the layout of Caffe, of any depth and width, from their weights.

They are fed with BGR pixels 0..255 less the mean colour; here the first convolution is turned
around instead, so that the input is RGB like everyone else's.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from torch import Tensor, nn

from vlcam.cnn import Layer, load_exactly, read_state_dict

MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)

CAFFE = "vgg"
"""The name of these networks in configurations, whatever their depth."""

SIZE = 224  # pixels of the input's sides

_CONVOLUTION = re.compile(r"conv(\d)_(\d)$")
# torchvision numbers the layers through, pooling and ReLU included.
_BLOCKS = {13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}


class CaffeVgg(nn.Sequential):
    """VGG up to its second fully connected layer: layers ``conv1_1``, ``relu1_1`` ... ``relu7``.

    Args:
        state: its weights, ``conv1_1.weight`` ... ``fc7.bias`` (any channels, any blocks).

    Attributes:
        layers: those with feature maps, in order, of an input of 224 x 224.
        default_layer: the last ReLU before the last pooling (``relu5_4`` of VGG-19).
        feature_size: F of the image feature (B, F), fc7's.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        missing = [n for n in ("conv1_1", "fc6", "fc7") if f"{n}.weight" not in state]
        if missing:
            raise ValueError(f"not the weights of a VGG: no {missing[0]}.weight")
        convolutions = sorted(
            match.groups()
            for name in state
            if (match := _CONVOLUTION.match(name.removesuffix(".weight")))
        )
        block = "1"
        for number, place in convolutions:
            if number != block:
                self.add_module(f"pool{block}", nn.MaxPool2d(2, 2, ceil_mode=True))
                block = number
            out, inputs, height, _ = state[f"conv{number}_{place}.weight"].shape
            convolution = nn.Conv2d(inputs, out, height, 1, height // 2)
            self.add_module(f"conv{number}_{place}", convolution)
            self.default_layer = f"relu{number}_{place}"
            self.add_module(self.default_layer, nn.ReLU())
        self.add_module(f"pool{block}", nn.MaxPool2d(2, 2, ceil_mode=True))
        self.layers = self._layers()
        self.add_module("flatten", nn.Flatten())
        for name in ("6", "7"):
            out, inputs = state[f"fc{name}.weight"].shape
            self.add_module(f"fc{name}", nn.Linear(inputs, out))
            self.add_module(f"relu{name}", nn.ReLU())
        self.feature_size: int = out

    def layer(self, name: str | None = None) -> Layer:
        """The layer of that name (default: ``default_layer``); ValueError names near ones."""
        for layer in self.layers:
            if layer.name == (name or self.default_layer):
                return layer
        names = [layer.name for layer in self.layers]
        near = difflib.get_close_matches(str(name), names, n=5, cutoff=0.3) or names[-5:]
        raise ValueError(f"layer {name!r} of this VGG: unknown; near: {', '.join(near)}")

    def _layers(self) -> list[Layer]:
        layers, channels, cells = [], 3, SIZE
        for name, module in self.named_children():
            if isinstance(module, nn.Conv2d):
                channels = module.out_channels
            elif isinstance(module, nn.MaxPool2d):
                cells = -(-cells // 2)
            layers.append(Layer(name, (channels, cells, cells)))
        return layers

    def split(self, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
        """Cut behind a layer: pixels to its maps, maps to the feature; the weights are shared."""
        at = [name for name, _ in self.named_children()].index(layer) + 1
        modules = list(self.children())
        return nn.Sequential(*modules[:at]), nn.Sequential(*modules[at:])


def read_vgg(path: Path) -> CaffeVgg:
    """A VGG from a state dict with Caffe's names (``conv1_1.weight``) or torchvision's, BGR.

    Raises:
        ValueError: the file cannot be read, or does not hold a VGG.
    """
    what = f"{path}: not the weights of a VGG"
    state = _caffe_names(read_state_dict(path))
    state = {k: v.float() for k, v in state.items() if not k.startswith("fc8.")}
    first = state.get("conv1_1.weight")
    if first is None or first.ndim != 4 or first.shape[1] != 3:
        raise ValueError(f"{what}: no conv1_1.weight of three colours")
    missing = [f"fc{i}.weight" for i in (6, 7) if f"fc{i}.weight" not in state]
    if missing:
        raise ValueError(f"{what}: missing {', '.join(missing)}")
    # On pixels in 0..255, in the opposite order.
    state["conv1_1.weight"] = first.flip(1)
    net = CaffeVgg(state)
    load_exactly(net, state, what)
    return net.eval()


def _caffe_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Caffe's names for torchvision's numbers."""
    numbers = sorted(
        int(name.split(".")[1]) for name in state if re.match(r"features\.\d+\.weight$", name)
    )
    blocks = _BLOCKS.get(len(numbers))
    if blocks is None:
        return state
    places = [f"conv{b}_{i}" for b, n in enumerate(blocks, 1) for i in range(1, n + 1)]
    names = {f"features.{n}": place for n, place in zip(numbers, places, strict=True)}
    names |= {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
    renamed = {}
    for name, value in state.items():
        stem, _, kind = name.rpartition(".")
        renamed[f"{names.get(stem, stem)}.{kind}"] = value
    return renamed
