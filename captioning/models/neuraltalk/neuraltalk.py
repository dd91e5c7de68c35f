"""NeuralTalk2's captioner: CNN -> image embedding -> LSTM -> words.

The captioner of section 8.1 of Selvaraju et al., IJCV 2019 (Karpathy's neuraltalk2); how its LSTM
reads and writes: ``captioning/writer.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captioning.language.writer import Writer, WriterConfig
from vlcam.formats import checkpoint
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess

ARCHITECTURE = "neuraltalk"


@dataclass(frozen=True, kw_only=True)
class Config(WriterConfig):
    """Everything but the weights.

    Attributes:
        cnn: name of the encoder (see :class:`vlcam.networks.encoder.Encoder`).
        preprocess: from a photo to the CNN's input.
    """

    cnn: str
    preprocess: Preprocess = field(default_factory=Preprocess)

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, ARCHITECTURE)

    @classmethod
    def from_json(cls, data: Any) -> Config:
        """Inverse of :meth:`to_json`; ValueError for anything else."""
        return checkpoint.from_json(cls, data, ARCHITECTURE, "captioner")


class NeuralTalk(Writer):
    """The captioner.

    ``standardise`` brings the image feature to the scale of its embedding. Without it the features
    of all photos are nearly the same (the mean of a rectified map has much the same value on every
    photo), and an LSTM that starts from them learns to write without looking.
    """

    config: Config

    def __init__(self, config: Config) -> None:
        nn.Module.__init__(self)
        self.encoder = Encoder(config.cnn, config.preprocess.size)
        self.standardise = nn.BatchNorm1d(self.encoder.feature_size, affine=False)
        self.add_layers(self.encoder.feature_size, config)

    def image_embedding(self, feature: Tensor) -> Tensor:
        return super().image_embedding(self.standardise(feature))

    def forward(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """Logits (N, L + 1, V) of each token and of the end, from the encoder's image features
        (N, F); see :meth:`hidden_states`."""
        logits: Tensor = self.logits(self.hidden_states(feature, tokens))
        return logits

    def start_blind(self) -> None:
        """Begin with an image embedding of next to nothing, beside a fixed CNN: what random weights
        make of the background, which is much the same on every photo, would never be unlearned,
        and be seen in the maps."""
        nn.init.normal_(self.embed_image.weight, std=1e-3)
        nn.init.zeros_(self.embed_image.bias)


def save(model: NeuralTalk, folder: Path, half: bool = False) -> None:
    """Write ``config.json`` and ``model.safetensors`` (float16 where ``half``) to a folder."""
    checkpoint.save(model, model.config.to_json(), folder, half)


def load(path: Path) -> NeuralTalk:
    """Read a captioner from its folder (or either file in it), in float32 and eval mode.

    Raises ValueError naming the file that is missing, truncated, or of another architecture.
    """
    return checkpoint.load(
        path, lambda data, _: NeuralTalk(Config.from_json(data)), f"{ARCHITECTURE} captioner"
    )
