"""Tiny real models for the tests: a captioner with a CNN and an LSTM, in float64."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor, nn

from captioning.language.captioner import Captioner, TokenizedWord
from vlcam import FeatureMaps, Preprocess
from vlcam.adapters.once_per_image import once_per_image
from vlcam.attribution import targets
from vlcam.geometry.grid import Grid, Placement

WORDS = ["a", "red", "dog", "on", "grass", "cat", "the", "sees"]


class TinyNet(nn.Module):
    """Two convolutions, an in-place ReLU right behind the seam, a rectified embedding, an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
        )
        self.after = nn.Sequential(
            nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True)
        )
        self.embed = nn.Linear(8, 5)
        self.dropout = nn.Dropout(0.5)
        self.words = nn.Embedding(len(WORDS) + 1, 5)
        self.lstm = nn.LSTM(5, 7, batch_first=True)
        self.logits = nn.Linear(7, len(WORDS) + 1)

    def feature(self, maps: Tensor) -> Tensor:
        """Image embeddings (N, 5) from feature maps behind the seam."""
        return self.embed(self.after(maps).mean((2, 3)))

    def language(self, maps: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, L, V) from feature maps behind the seam and tokens (N, L)."""
        return self.words_of(self.feature(maps), tokens)

    def words_of(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, L, V) from image embeddings and tokens (N, L)."""
        image = feature[:, None]
        start = torch.zeros_like(tokens[:, :1])
        steps = torch.cat([image, self.words(torch.cat([start, tokens[:, :-1]], 1))], 1)
        return self.logits(self.dropout(self.lstm(steps)[0]))[:, 1:]

    def forward(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        return self.language(self.before(pixels), tokens)


class TinyCaptioner(Captioner):
    """The adapter over :class:`TinyNet`."""

    name = "tiny"
    layer = "before.3"

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            self.module = TinyNet().to(dtype).eval()
            for buffer in (self.module.before[1].running_mean, self.module.before[1].weight.data):
                buffer.add_(torch.rand_like(buffer) * 0.3)
        self.encoded = 0
        self.preprocess = Preprocess(size=(32, 32))

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self.preprocess(photo)

    def encode(self, pixels: Tensor, prompts: object = None) -> FeatureMaps:
        self.encoded += len(pixels)
        return FeatureMaps(self.module.before(pixels))

    def teacher_force(self, features: FeatureMaps, tokens: Tensor) -> Tensor:
        feature = once_per_image(lambda seen: self.module.feature(seen.maps), features)
        return self.module.words_of(feature, tokens)

    def words(self, text: str) -> list[TokenizedWord]:
        return [
            TokenizedWord(
                word, (WORDS.index(word) + 1,) if word in WORDS else (1,), word not in WORDS
            )
            for word in text.lower().split()
        ]

    def generate(self, features: FeatureMaps, beam: int = 1) -> list[TokenizedWord]:
        tokens: list[int] = []
        for _ in range(4):
            given = torch.tensor([[*tokens, 0]])
            tokens.append(int(self.teacher_force(features, given)[0, -1, 1:].argmax()) + 1)
        return [TokenizedWord(WORDS[t - 1], (t,)) for t in tokens]

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return Grid((input_size[0] // 4, input_size[1] // 4), (0.0, 0.0), (4.0, 4.0))


def photo(width: int = 32, height: int = 32, seed: int = 0) -> Image.Image:
    """A photo of coloured noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(noise.numpy())


CAPTION = "a red dog on the grass"


def pixels_of(model: TinyCaptioner) -> Tensor:
    return model.prepare(photo())[0][None].double()


def asked(model: TinyCaptioner) -> list[targets.Target]:
    """Words, a whole caption, a contrast of two captions' words, a negation."""
    reading, other = model.read(CAPTION), model.read("a red cat")
    words = targets.units(reading)
    cat = targets.unit(other, other.units[2])
    return [*words, targets.whole(reading), words[2] - cat, -words[1]]
