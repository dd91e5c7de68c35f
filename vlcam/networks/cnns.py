"""The CNNs that an encoder is built of, by their names.

What is known of each before and besides its weights: its network, the pixels it takes, and where
published weights of it come from. A library of networks is imported when one of its own is named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vlcam.formats.packaged import PackagedFile
from vlcam.networks import efficientnet_lite, timm_cnn, transformers_cnn
from vlcam.networks.efficientnet_lite import EfficientNetLite
from vlcam.networks.small_cnn import SmallCNN
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.nearest import unknown

_PACKAGE = Path(__file__).parents[1]
_BUNDLED = "bundled/cnn"

OWN = ("small", *efficientnet_lite.NAMES)


def cnn_names() -> list[str]:
    """Names that :func:`build` takes: our own, then torchvision's image classifiers."""
    import torchvision

    return [*OWN, *sorted(torchvision.models.list_models(module=torchvision.models))]


def build(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The network of that name without its last linear layer, from pixels (B, 3, H, W) to the
    image feature (B, F), with random weights; and what in published weights belongs to that layer:
    the names of modules.

    Raises:
        ValueError: the name is not known (near ones are named).
    """
    if name == "small":
        return SmallCNN(), ()
    if name in efficientnet_lite.NAMES:
        return EfficientNetLite(name), (efficientnet_lite.CLASSIFIER,)
    if _begins(name, transformers_cnn.PREFIX):
        return transformers_cnn.build(name), ()
    if _begins(name, timm_cnn.PREFIX):
        return timm_cnn.build(name)
    return _of_torchvision(name)


def preprocess(name: str, size: tuple[int, int]) -> Preprocess:
    """How a photo becomes the network's input, of (height, width) pixels: stretched, its pixels as
    the published weights were trained on them.

    Raises:
        ValueError: timm has no such network, or is not installed.
    """
    if name in efficientnet_lite.NAMES:
        return efficientnet_lite.preprocess(size)
    return timm_cnn.preprocess(name, size) if _begins(name, timm_cnn.PREFIX) else Preprocess(size)


def published(name: str) -> dict[str, Tensor]:
    """Weights of the whole network as they were published: from a package of data, or downloaded by
    timm.

    Raises:
        ValueError: they cannot be had, or none are known here.
    """
    if files := packaged(name):
        return files[0].read()
    if _begins(name, timm_cnn.PREFIX):
        return timm_cnn.weights(name)
    raise ValueError(f"no published weights of {name} are known here: name a file")


def packaged(name: str) -> list[PackagedFile]:
    """Files in packages that hold weights of the network: those that were published, if any are,
    then what was fine-tuned of them for models that come with vlcam
    (``vlcam/bundled/cnn/NAME/*.safetensors``)."""
    if name not in efficientnet_lite.NAMES:
        return []
    shared = sorted((_PACKAGE / _BUNDLED / name).glob("*.safetensors"))
    files = [PackagedFile("vlcam", f"{_BUNDLED}/{name}/{path.name}") for path in shared]
    return [efficientnet_lite.packaged(name), *files]


def begins_with_published(name: str) -> bool:
    """Whether a network of that name begins with published weights where none are named."""
    return bool(packaged(name))


def _begins(name: object, prefix: str) -> bool:
    return isinstance(name, str) and name.startswith(prefix)


def _of_torchvision(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    from torchvision.models import get_model

    if name not in cnn_names():
        raise ValueError(unknown("CNN", name, cnn_names(), examples=("resnet50", "vgg16")))
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "transform_input": False, "init_weights": True}
    net = get_model(name, weights=None, **options)
    linears = [path for path, module in net.named_modules() if type(module) is nn.Linear]
    if not linears:
        raise ValueError(f"CNN {name}: it has no linear classifier whose input to take")
    net.set_submodule(linears[-1], nn.Identity())
    return net, (linears[-1],)
