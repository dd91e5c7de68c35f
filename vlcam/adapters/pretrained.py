"""What adapters of transformers' models that hold a vision transformer share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt
from vlcam.adapters.image_processor import ImageProcessor, assumed, image_processor
from vlcam.adapters.subwords import Subwords
from vlcam.adapters.teacher_forcing import TokenizedWord
from vlcam.adapters.vision_transformer import VisionTransformer
from vlcam.formats.folders.files import model_name
from vlcam.formats.pretrained import about, load_pretrained, quietly, save_pretrained
from vlcam.geometry.grid import Grid, Placement


class PhotoProcessor(Protocol):
    """From photos to their pixels.

    Attributes:
        processor: of transformers.
    """

    processor: Any

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every input; None where it depends on the photo."""

    def __call__(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W) of an RGB photo, and where the photo lies in them."""


@dataclass(frozen=True)
class Pretrained:
    """A model of transformers with all it needs.

    Attributes:
        name: as results carry it.
        module: the model.
        tokenizer: a fast one.
        processor: from photos to their pixels.
        assumed: what no file says of how photos are prepared
            (:func:`vlcam.adapters.image_processor.assumed`).
    """

    name: str
    module: Any
    tokenizer: Any
    processor: PhotoProcessor
    assumed: tuple[str, ...] = ()

    @classmethod
    def load(
        cls,
        kind: Any,
        path: Path,
        processor: Callable[[Path, Any], PhotoProcessor],
        unused: Sequence[str] = (),
    ) -> Pretrained:
        """From a folder that ``save_pretrained`` wrote, or a file in it.

        Args:
            kind: the model's class.
            processor: makes the processor from the folder and the model.
            unused: beginnings of the names of parts that are never run, whose weights may be
                missing.

        Raises:
            ValueError: as by :func:`vlcam.formats.pretrained.load_pretrained` and
                ``processor``.
        """
        folder = path if path.is_dir() else path.parent
        module, tokenizer = load_pretrained(kind, folder, unused)
        try:
            made = processor(folder, module)
            told = assumed(folder, made.processor)
            return cls(model_name(folder), module, tokenizer, made, told)
        except ValueError as error:
            raise ValueError(f"{folder}: image processor: {error}") from error


def plain(default: Callable[[Any], Any]) -> Callable[[Path, Any], PhotoProcessor]:
    """How to make an image processor: the one in the folder, or, where it has none, the one that
    ``default`` makes for the model."""
    return lambda folder, module: ImageProcessor(image_processor(folder, default(module)))


class PretrainedAdapter(Adapter):
    """An adapter of a model whose feature maps are the tokens of a photo's patches.

    Args:
        parts: the model and all it needs.
        vision: the vision transformer in it.
        family: the model's family, as results carry it.
        size: (height, width) of the only input it takes; None: it takes any.

    Attributes:
        layers: names of those that can be explained.

    Raises:
        ValueError: the tokenizer is not a fast one; the image processor makes inputs of another
            size than the model takes.
    """

    module: Any  # transformers' own annotations do not follow its classes

    def __init__(
        self,
        parts: Pretrained,
        vision: VisionTransformer,
        family: str,
        size: tuple[int, int] | None,
    ) -> None:
        made = parts.processor.size
        if size is not None and made != size:
            found = f"of {made[0]} x {made[1]}" if made else "as the photo's shape has it"
            raise ValueError(
                f"{parts.name}: its image processor makes inputs {found},"
                f" the model takes {size[0]} x {size[1]}"
            )
        self.name, self.module, self.layer = parts.name, parts.module, vision.layer
        self.tokenizer, self.vision = parts.tokenizer, vision
        self.layers = vision.layers
        self.subwords = Subwords(parts.tokenizer)
        self._processor = parts.processor
        self._assumed = parts.assumed
        self._family = family

    def cut_at(self, layer: str | None) -> None:
        self.vision = self.vision.at_layer(layer)
        self.layer = self.vision.layer

    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        return self._processor(photo)

    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        return self.vision.encode(pixels)

    def grid(self, input_size: tuple[int, int]) -> Grid:
        return self.vision.grid(input_size)

    def save(self, folder: Path) -> None:
        """As transformers' ``save_pretrained`` of the model, its tokenizer and its processor."""
        save_pretrained(folder, self.module, self.tokenizer, self._processor.processor)

    def describe(self) -> dict[str, Any]:
        return {
            "family": self._family,
            **about(self.module),
            "assumed as published": list(self._assumed),
        }

    def checked(
        self, what: str, words: list[TokenizedWord], most: int | None
    ) -> list[TokenizedWord]:
        """Those words, of the text that ``what`` names: "caption", "question".

        Raises:
            ValueError: they have more tokens than ``most``.
        """
        length = sum(len(word.tokens) for word in words)
        if most is not None and length > most:
            raise ValueError(f"the {what} has {length} tokens; {self.name} reads at most {most}")
        return words


def generate(
    module: Any, beam: int, *, start: int, ends: int | Sequence[int] | None, **inputs: Any
) -> list[int]:
    """The tokens that transformers' ``generate`` writes about one photo, under the model's own
    settings, without sampling; without the ``start`` first ones, which were given, and without the
    one that ends the text.

    Args:
        beam: width of the beam search.
        ends: the token, or tokens, that end a text.
        inputs: for ``generate``.
    """
    with quietly():
        (sequence,) = module.generate(num_beams=beam, do_sample=False, **inputs)
    last = {ends} if isinstance(ends, int) else set(ends or ())
    return list(takewhile(lambda token: token not in last, sequence[start:].tolist()))
