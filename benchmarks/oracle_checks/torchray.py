"""TorchRay's Grad-CAM and guided backpropagation of a VGG and a ResNet, through ``vlcam.wrap``.

Its excitation backpropagation is none of vlcam's methods: those arrays are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import vlcam
from benchmarks.oracle_checks.report import (
    LOG_PROBABILITY,
    MAP,
    Check,
    Report,
    grad_cam,
    relative,
)
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_pixels
from vlcam.attribution.targets import Target, Term
from vlcam.formats.state_dict import load_exactly, read_state_dict
from vlcam.networks.resnet import resnet


def check(folder: Path, report: Report) -> None:
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    image = torch.from_numpy(inputs["image"])
    for kind, net, layer, what in (
        ("vgg", _vgg(folder / "vgg16_tiny.pth"), "features.29", "vgg_gradcam_f29"),
        ("resnet", _resnet(folder / "resnet50_tiny.pth"), "0.7", "resnet_gradcam_layer4"),
    ):
        model = vlcam.wrap(net, layer=layer, score=_logits)
        with torch.no_grad():
            difference = np.abs(net(image).numpy() - expected[f"{kind}_logits"]).max()
        report.number(folder.name, f"{kind}, logits", difference, LOG_PROBABILITY)
        target = Target("class", (Term(1.0, None, (int(expected[f"{kind}_target"]),)),))
        features = encode(model, image)
        report.maps(folder.name, what, grad_cam(model, features, [target]), expected[what])
        if kind == "vgg":
            what = "vgg_guided_backprop_saliency"
            guided = methods.get("guided-backprop")
            _, maps = explain_at_pixels(model, image, [target], guided)
            report.number(folder.name, what, relative(maps, expected[what][0]), MAP)


def _logits(net: nn.Module, pixels: Tensor, prompts: Sequence[object]) -> Tensor:
    logits: Tensor = net(pixels)
    return logits


def _vgg(path: Path) -> nn.Module:
    state = read_state_dict(path)
    features = nn.Sequential()
    numbers = [int(key.split(".")[1]) for key in state if key.startswith("features.")]
    while len(features) <= max(numbers) + 2:
        weight = state.get(f"features.{len(features)}.weight")
        if weight is None:
            features.append(nn.MaxPool2d(2, 2))
        else:
            features.extend([nn.Conv2d(weight.shape[1], len(weight), 3, padding=1), nn.ReLU()])
    shapes = [state[f"classifier.{i}.weight"].shape for i in (0, 3, 6)]
    classifier = nn.Sequential()
    for out, inputs in shapes:
        classifier.extend([nn.Linear(inputs, out), nn.ReLU(), nn.Dropout()])
    net = nn.Sequential()
    net.add_module("features", features)
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", classifier[:7])
    load_exactly(net, state, f"{path}: not the weights of a VGG")
    return net.eval()


def _resnet(path: Path) -> nn.Module:
    state = read_state_dict(path)
    trunk, channels = resnet(state, "torchvision", f"{path}: not the weights of a ResNet")
    fc = nn.Linear(channels, len(state["fc.bias"]))
    fc.load_state_dict({"weight": state["fc.weight"], "bias": state["fc.bias"]})
    return nn.Sequential(trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten(), fc).eval()


CHECKS: dict[str, Check] = {"excitation_backprop": check}
