"""The CNNs that an encoder is built of, by their names.

What is known of each before and besides its weights: its network, the pixels it takes, and where
published weights of it come from. A library of networks is imported when one of its own is named.
"""

from __future__ import annotations

import difflib
from typing import Any

from torch import nn

from vlcam.formats.packaged import PackagedFile
from vlcam.networks import efficientnet_lite, transformers_cnn
from vlcam.networks.efficientnet_lite import EfficientNetLite
from vlcam.networks.small_cnn import SmallCNN
from vlcam.photo.preprocess import Preprocess

OWN = ("small", *efficientnet_lite.NAMES)


def cnn_names() -> list[str]:
    """Names that :func:`build` takes: our own, then torchvision's image classifiers."""
    import torchvision

    return [*OWN, *sorted(torchvision.models.list_models(module=torchvision.models))]


def build(name: str) -> tuple[nn.Module, str]:
    """The network of that name without its last linear layer, from pixels (B, 3, H, W) to the
    image feature (B, F), with random weights; and the name of that layer in published weights.

    Raises:
        ValueError: the name is not known (near ones are named).
    """
    if name == "small":
        return SmallCNN(), ""
    if name in efficientnet_lite.NAMES:
        return EfficientNetLite(name), efficientnet_lite.CLASSIFIER
    if isinstance(name, str) and name.startswith(transformers_cnn.PREFIX):
        return transformers_cnn.build(name), ""
    return _of_torchvision(name)


def preprocess(name: str, size: tuple[int, int]) -> Preprocess:
    """How a photo becomes the network's input, of (height, width) pixels: stretched, its pixels as
    the published weights were trained on them."""
    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.preprocess(size)
    return Preprocess(size)


def packaged(name: str) -> PackagedFile | None:
    """The file of published weights that is installed by pip; None: the network has none."""
    if name in efficientnet_lite.NAMES:
        return PackagedFile(efficientnet_lite.package(name))
    return None


def _of_torchvision(name: str) -> tuple[nn.Module, str]:
    from torchvision.models import get_model

    if name not in cnn_names():
        near = difflib.get_close_matches(str(name), cnn_names(), n=5, cutoff=0.3)
        raise ValueError(f"unknown CNN {name!r}; near: {', '.join(near) or 'resnet50, vgg16'}")
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    net = get_model(name, weights=None, **options)
    linears = [path for path, module in net.named_modules() if type(module) is nn.Linear]
    if not linears:
        raise ValueError(f"CNN {name}: it has no linear classifier whose input to take")
    net.set_submodule(linears[-1], nn.Identity())
    return net, linears[-1]
