"""Layers worth a look, of every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18

import captioning
import vlcam
from tests.samples.adapters import ADAPTERS
from tests.samples.families.located import Halves, wrapped
from tests.samples.vqa import vilt as vilt_files
from tests.tools.command_line import DEPTHS
from tests.tools.untouched import unchanged
from vlcam.adapters.adapter import Adapter
from vlcam.choosing.layers import depths, worth_comparing
from vlcam.models import load


def compared(model: Adapter, side: int = 64) -> list[str]:
    pixels = torch.rand(1, 3, side, side)
    with unchanged(model.module):
        return worth_comparing(model, pixels, "left")


def test_blocks_and_poolings_are_the_depths(tmp_path: Path) -> None:
    assert depths(captioning.load("scenes")) == DEPTHS
    with pytest.raises(ValueError, match="tiny: its layers are not known here"):
        depths(ADAPTERS["tiny"](tmp_path).adapter)


def test_a_few_of_a_cnn_are_compared(tmp_path: Path) -> None:
    """The last of each size of feature maps, the model's own, and the one before it."""
    assert compared(captioning.load("scenes")) == ["stage1", "stage2", "stage3", "stage4"]
    behind = load("scenes", kind="vqa")
    assert compared(behind) == ["stage1", "stage2", "stage4", "glimpses"]
    assert compared(ADAPTERS["tiny"](tmp_path).adapter) == ["before.3"], "none else is known"


def test_some_blocks_of_a_transformer_are(tmp_path: Path) -> None:
    vilt = load(vilt_files.save(tmp_path / "vilt"))
    assert compared(vilt) == ["vilt.encoder.layer.0", "vilt.encoder.layer.1"]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 16, 16)
        self.blocks = nn.Sequential(
            *(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True) for _ in range(8))
        )
        self.head = nn.Linear(8, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.head(
            self.blocks(self.embed(pixels).flatten(2).transpose(1, 2)).mean(1)
        )
        return found


@pytest.mark.parametrize(
    ("made", "layer", "expected"),
    [
        (resnet18, "layer4", ["layer2", "layer3", "layer4"]),
        (resnet18, "layer3", ["layer2", "layer3", "layer4"]),
        (mobilenet_v2, "features.18", ["features.6", "features.13", "features.17", "features.18"]),
        (Tokens, "blocks.7", ["blocks.4", "blocks.5", "blocks.6", "blocks.7"]),
    ],
)
def test_of_a_wrapped_module_what_gives_feature_maps_when_it_runs(
    made: Callable[[], nn.Module], layer: str, expected: Sequence[str]
) -> None:
    net = made()
    more = {"patch": 16} if made is Tokens else {}
    model = vlcam.wrap(
        net,
        layer=layer,
        score=lambda module, pixels, prompts: module(pixels),
        answers=[str(i) for i in range(2 if made is Tokens else 1000)],
        question="what?",
        **more,  # type: ignore[arg-type]
    )
    assert compared(model) == expected
    assert compared(wrapped(Halves())) == ["see", "asked"]
