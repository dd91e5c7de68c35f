"""A VQA model of which it is known where it looks, and photos for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

import vlcam

SIDE, CELL, SQUARE = 64, 8, 16
ANSWERS = ["red", "green"]


class Asked(nn.Module):
    """Feature maps of the half that is asked about; those of the other half are 0."""

    def forward(self, maps: Tensor, left: Tensor) -> Tensor:
        middle = torch.arange(maps.shape[3]) < maps.shape[3] // 2
        return maps * torch.where(left[:, None], middle, ~middle)[:, None, None, :]


class Halves(nn.Module):
    """Says which colour there is in one half of a photo.

    At ``see``, before the question comes in, Grad-CAM weighs both halves alike, so its peak is on
    the more colourful one, whatever is asked. At ``asked`` it is right; so is LayerCAM at ``see``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(nn.Conv2d(3, 2, CELL, CELL), nn.ReLU())
        self.asked = Asked()
        self.answer = nn.Linear(2, len(ANSWERS))
        with torch.no_grad():
            convolution, linear = self.see[0], self.answer
            assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
            weights = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]) / CELL**2
            convolution.weight.copy_(weights[:, :, None, None].expand(2, 3, CELL, CELL))
            convolution.bias.zero_()
            linear.weight.copy_(torch.tensor([[1.0, -0.2], [-0.2, 1.0]]))
            linear.bias.zero_()

    def forward(self, pixels: Tensor, left: Tensor) -> Tensor:
        found: Tensor = self.answer(self.asked(self.see(pixels), left).mean((2, 3)))
        return found


def score(net: nn.Module, pixels: Tensor, prompts: Sequence[object]) -> Tensor:
    found: Tensor = net(pixels, torch.tensor([prompt == "left" for prompt in prompts]))
    return found


def wrapped(net: nn.Module, layer: str = "see") -> vlcam.ModuleAdapter:
    return vlcam.wrap(
        net,
        layer=layer,
        score=score,
        answers=ANSWERS,
        preprocess=vlcam.Preprocess(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3),
    )


def photo(seed: int) -> tuple[Image.Image, tuple[int, int]]:
    """A red square in each half, one of them redder, and a green one below; and where the left red
    one is: its first pixel (x, y)."""
    random = np.random.default_rng(seed)
    grey = random.integers(110, 140, (SIDE, SIDE, 1), np.uint8).repeat(3, 2)
    image = Image.fromarray(grey)
    draw = ImageDraw.Draw(image)

    def square(x: int, y: int, colour: tuple[int, int, int]) -> tuple[int, int]:
        draw.rectangle((x, y, x + SQUARE - 1, y + SQUARE - 1), fill=colour)
        return x, y

    half, reds = SIDE // 2, random.permutation([190, 240])
    left, _ = (
        square(int(random.integers(start, start + half - SQUARE)), int(random.integers(28)), red)
        for start, red in zip((0, half), ((int(red), 60, 60) for red in reds), strict=True)
    )
    square(int(random.integers(SIDE - SQUARE)), SIDE - SQUARE, (60, 230, 60))
    return image, left
