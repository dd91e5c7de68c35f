"""Networks of timm as encoders: ``timm:NAME``, as timm names them, with a tag or without."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.errors import one_line
from vlcam.utils.messages.nearest import unknown

PREFIX = "timm:"


def build(name: str) -> tuple[nn.Module, tuple[str, ...]]:
    """The network without its classifier, with random weights; and the classifier's layers.

    Raises:
        ValueError: timm is not installed, has no such network, or cannot make it.
    """
    net = _made(name, pretrained=False)
    layers = net.pretrained_cfg.get("classifier") or ()
    return net, (layers,) if isinstance(layers, str) else tuple(layers)


def weights(name: str) -> dict[str, Tensor]:
    """The weights that timm publishes for that name, downloaded by timm unless they were before.

    Raises:
        ValueError: as by :func:`build`; or there are none, or they cannot be fetched.
    """
    state: dict[str, Tensor] = _made(name, pretrained=True).state_dict()
    return state


def preprocess(name: str, size: tuple[int, int]) -> Preprocess:
    """Photos stretched to (height, width), their pixels as those weights were trained on.

    Raises:
        ValueError: timm is not installed, or has no such network.
    """
    found = _described(name)
    return Preprocess(size, mean=found.mean, std=found.std) if found else Preprocess(size)


def _made(name: str, pretrained: bool) -> Any:
    _described(name)
    try:
        head = {} if pretrained else {"num_classes": 0}  # published weights are given whole
        return _timm(name).create_model(_bare(name), pretrained=pretrained, **head)
    except Exception as error:  # whatever its networks and its downloads stumble over
        what = "its weights cannot be had" if pretrained else "timm cannot make it"
        raise ValueError(f"CNN {name}: {what} ({one_line(error)})") from error


def _described(name: str) -> Any:
    """What timm says of the weights it publishes; None where it publishes none.

    Raises:
        ValueError: timm is not installed, or has no such network.
    """
    timm, bare = _timm(name), _bare(name)
    if not timm.is_model(bare):
        known = [f"{PREFIX}{one}" for one in timm.list_models()]
        raise ValueError(unknown("CNN", name, known, examples=(f"{PREFIX}resnet50",)))
    try:
        return timm.models.get_pretrained_cfg(bare)
    except RuntimeError as error:  # of an unknown tag
        raise ValueError(f"unknown CNN {name!r}: {one_line(error)}") from error


def _bare(name: str) -> str:
    return name.removeprefix(PREFIX)


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"CNN {name}: timm is not installed: pip install 'vlcam[timm]'") from error
    return timm
