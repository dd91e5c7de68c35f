"""The contract between vlcam and a model: two functions with a seam between them.

::

    photo --prepare--> pixels --encode--> feature maps A --decode(prompt)--> scores

The seam is the explained layer. ``encode`` runs once an image, ``decode`` once a target, on rows
that do not influence each other (Figure 2 of the paper; section 3 for A and y).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapters.attention_flow import Flow
from vlcam.geometry.grid import Cells, Grid, Placement

Prompt = Hashable
"""What a model is asked under: a caption's token ids, say. Made and read by its adapter."""


@dataclass(frozen=True)
class FeatureMaps:
    """The explained layer's output for B images, and whatever else ``decode`` needs of them.

    Attributes:
        maps: A, (B, K, u, v): K channels of u x v cells laid out as in the input (row 0 on top).
        rest: other tensors that pass the seam, each with B rows (the class token of a transformer,
            say). Held constant when the score is differentiated with respect to ``maps``; followed
            when it is differentiated with respect to the pixels.
        image: (B,) where rows repeat: those of one number are equal (see
            :func:`vlcam.adapters.once_per_image.once_an_image`). None where every row is its own.
    """

    maps: Tensor
    rest: Mapping[str, Tensor] = field(default_factory=dict)
    image: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.maps.device

    def rows(self, index: Tensor) -> FeatureMaps:
        """The rows at ``index`` (N,), repeated as it says."""
        return FeatureMaps(
            self.maps.index_select(0, index),
            {name: tensor.index_select(0, index) for name, tensor in self.rest.items()},
            index if self.image is None else self.image.index_select(0, index),
        )

    def one(self, row: int) -> FeatureMaps:
        """One image's row, by itself."""
        some = slice(row, row + 1)
        return FeatureMaps(self.maps[some], {name: t[some] for name, t in self.rest.items()})

    @classmethod
    def of(cls, images: Sequence[FeatureMaps]) -> FeatureMaps:
        """The rows of several images, one each."""
        return cls(
            torch.cat([one.maps for one in images]),
            {name: torch.cat([one.rest[name] for one in images]) for name in images[0].rest},
        )


@dataclass(frozen=True)
class Unit:
    """One thing that can be explained under a prompt: a word of a caption, an answer.

    Attributes:
        text: as written.
        scores: the columns of ``decode``'s scores whose sum is this unit's score (a word made of
            several tokens has several).
        unknown: the model has no such word, so there is nothing of its to explain.
    """

    text: str
    scores: tuple[int, ...]
    unknown: bool = False


@dataclass(frozen=True)
class Reading:
    """A text as the model reads it: the prompt to decode under and the units it is made of."""

    text: str
    prompt: Prompt
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Question:
    """A question as a VQA model reads it: its prompt, and the words it does not know."""

    text: str
    prompt: Prompt
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class OwnAttention:
    """Where a model itself says it looked, whatever its answer, or token by token of its text.

    Attributes:
        names: of L maps: levels, layers, heads; the tokens.
        maps: (L, u, v), raw.
        grid: where their cells lie in the input.
    """

    names: tuple[str, ...]
    maps: Tensor
    grid: Grid


class Adapter(ABC):
    """A model that can be explained at one layer.

    Attributes:
        name: of the model, as results carry it.
        layer: name of the explained layer, as results carry it.
        module: everything ``encode`` and ``decode`` run; the engine sees to it that it is left
            as it was.
        encode_reads_prompt: whether the feature maps depend on the prompt (single-stream
            transformers). Then ``encode`` runs once a prompt instead of once an image.
        sees_pixels: whether it looks at pixels. False: at something that was made of the photo
            beforehand (regions' features); then that is what :meth:`prepare_file` gives in their
            place, and methods at the pixels are refused.
        writes_pixels: whether ``encode`` may write into the pixels it is given; they are copied for
            it.
        thread_safe: whether several threads may use it at once, as an evaluation then does. Not so
            where a call leaves something for another in the adapter, or hooks in the model.
    """

    name: str
    layer: str
    module: nn.Module
    encode_reads_prompt: bool = False
    sees_pixels: bool = True
    writes_pixels: bool = True
    thread_safe: bool = False

    @abstractmethod
    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W) of an RGB photo, and where the photo lies in them."""

    def prepare_file(self, photo: Image.Image, path: str) -> tuple[Tensor, Placement]:
        """As :meth:`prepare`, of the photo in a file; for models that need what lies beside it.

        Raises:
            ValueError: it is missing or damaged; names the file expected.
        """
        return self.prepare(photo)

    def check_sees_pixels(self) -> None:
        """Raises ValueError where it does not."""
        if not self.sees_pixels:
            raise ValueError(
                f"{self.name} is not fed pixels, so it has no maps at them; choose a method at the"
                " layer: grad-cam, hirescam"
            )

    def resize(self, size: tuple[int, int]) -> None:
        """From now on prepare photos to inputs of (height, width), for models that take any.

        Raises:
            ValueError: this one takes its own size only.
        """
        raise ValueError(f"{self.name} takes photos at its own size only")

    @abstractmethod
    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        """The model up to the layer: pixels (B, 3, H, W) to feature maps (B, K, u, v).

        Called without autograd, or with it where a method asks for gradients at the pixels.
        """

    def encode_photo(self, pixels: Tensor) -> FeatureMaps | None:
        """Where ``encode_reads_prompt``: the part of ``encode`` that does not, so that a photo that
        is asked again is not seen anew; :meth:`encode_prompt` does the rest. None: there is none.
        """
        return None

    def encode_prompt(self, photo: FeatureMaps, prompts: Sequence[Prompt]) -> FeatureMaps:
        """The rest of ``encode`` behind :meth:`encode_photo`."""
        raise NotImplementedError(f"{self.name}: encode_photo without encode_prompt")

    def encoder(self) -> nn.Module | None:
        """The module that is all of ``encode`` (or of :meth:`encode_photo`), pixels to feature
        maps, where there is one: of such models occlusion maps may be computed faster
        (:mod:`vlcam.attribution.incremental`)."""
        return None

    @abstractmethod
    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Everything behind the layer: N rows of feature maps and N prompts to scores (N, S).

        Differentiable in ``features``, which it may overwrite. Row n depends on row n alone.

        Args:
            features: N rows.
            prompts: N prompts, one a row.
            wanted: bool (N, S), the scores that will be read; any other may be left out of the
                work (and be anything finite). None means all.
        """

    def kept_bytes(self, features: FeatureMaps) -> int | None:
        """About how many bytes autograd keeps for one row of :meth:`decode` of such features, where
        that has little to do with their size: the first rows are as many as seem to fit, all
        others as many as were measured to. None: the engine guesses."""
        return None

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention | None:
        """The model's own attention to one image (features of one row) under a prompt, if it has
        any. Of a model that writes: a map for each token of the prompt's text, while it wrote it.

        Args:
            input_size: (height, width).
        """
        return None

    def attention_flow(self, prompt: Prompt) -> Flow | None:
        """How attention flows from the photo's patches (which are the layer's cells) to the scores
        under a prompt, for methods that follow it. None: there is none that they can follow."""
        return None

    @abstractmethod
    def grid(self, input_size: tuple[int, int]) -> Grid:
        """Where the layer's cells lie in an input of (height, width)."""

    def cells(self, pixels: Tensor, placement: Placement) -> Cells:
        """Where the layer's cells lie in one photo's input (1, 3, H, W): for models of which each
        photo says so itself, as regions do."""
        return self.grid((pixels.shape[2], pixels.shape[3]))

    def save(self, folder: Path) -> None:
        """Write the model as safetensors and JSON, so that :func:`vlcam.load` gives it again from
        ``folder``.

        Raises:
            ValueError: models of this kind cannot be written.
        """
        raise ValueError(f"{self.name}: models of this kind are not written to files")

    def describe(self) -> dict[str, Any]:
        """What a result should record of this model beside its name and layer."""
        return {}
