"""A small model in float64, with pixels and texts for it: what every adapter is tested with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captioning.language.captioner import Captioner, padded
from vlcam import Adapter
from vlcam.adapters.adapter import Prompt, Reading
from vlcam.attribution import targets
from vlcam.attribution.targets import Target
from vqa.answering.cnn_answerer import CnnAnswerer


@dataclass(frozen=True)
class Case:
    """A model, pixels (1, 3, H, W) for it, and captions as it reads them (the second: shorter).

    ``eye``: its module that sees the pixels first; None: the first convolution. ``eye_rows``: rows
    of what that is given that one image has.
    """

    adapter: Adapter
    pixels: Tensor
    long: Reading
    short: Reading
    eye: nn.Module | None = None
    eye_rows: int = 1

    @property
    def prompts(self) -> list[Prompt] | None:
        """What ``encode`` needs beside the pixels: nothing, but for a single-stream model."""
        return [self.long.prompt] if self.adapter.encode_reads_prompt else None

    def asked(self) -> list[Target]:
        """Each word, a whole caption, a contrast of words of two captions, a negation."""
        words = targets.units(self.long)
        other = targets.units(self.short)[-1]
        return [*words, targets.whole(self.long), words[2] - other, -words[1]]


def noise(size: int | tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    height, width = (size, size) if isinstance(size, int) else size
    return torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)


def case_of(adapter: Captioner, long: str, short: str, size: int | tuple[int, int] = 32) -> Case:
    return Case(adapter, noise(size), adapter.read(long), adapter.read(short))


def asked_case(adapter: CnnAnswerer, size: int, long: str, short: str, scale: float) -> Case:
    """Answers to two questions of unlike length."""
    adapter.module.double()
    questions = (adapter.understand(text) for text in (long, short))
    return Case(adapter, scale * noise(size), *map(adapter.read, questions))


def caption_scores(net: nn.Module, pixels: Tensor, prompts: Sequence[Prompt]) -> Tensor:
    """log p of each token of each row's caption, of a module called with pixels and tokens."""
    tokens = padded(prompts).to(pixels.device)
    return net(pixels, tokens).log_softmax(-1).gather(2, tokens[:, :, None]).squeeze(2)
