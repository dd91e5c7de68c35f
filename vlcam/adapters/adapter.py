"""The contract between vlcam and a model: two functions with a seam between them. START HERE.

::

    photo --prepare--> pixels --encode--> feature maps A --decode(prompt)--> scores y
                       (B,3,H,W)          (B,K,u,v)                          (N,S)

The seam is the explained layer (Figure 2 of the paper; section 3 for A and y). ``encode`` is the
model up to it: it runs once per image, without an autograd graph. ``decode`` is everything behind
it: it runs on N rows of feature maps, one per target, and is differentiable in them. Every map is
made from the gradients dy/dA at the seam.

An :class:`Adapter` must have ``name``, ``layer``, ``module``, ``prepare``, ``encode``, ``decode``
and ``grid``; all else has defaults. :func:`vlcam.testing.check_adapter` tries whether it keeps the
contract; ``docs/own_captioner.md`` writes one step by step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from vlcam.adapters.attention_flow import Flow
from vlcam.formats.world import Likeness
from vlcam.geometry.grid import Cells, Grid, Placement
from vlcam.utils.messages.brief import Brief
from vlcam.utils.messages.expected import described, expect

Prompt = Hashable
"""What scores are read under: the token ids of a caption, those of a question. Made by the adapter,
and read by nobody else."""


@dataclass(frozen=True, repr=False)
class FeatureMaps(Brief):
    """The explained layer's output for B images, and whatever else ``decode`` needs of them.

    Attributes:
        maps: A, (B, K, u, v): K channels of u rows and v columns of cells, laid out as in the
            input (row 0 on top).
        rest: other tensors that pass the seam, each with B rows (a transformer's class token, for
            instance). Held constant when a score is differentiated with respect to ``maps``;
            followed when it is differentiated with respect to the pixels.
        image: (B,) where rows repeat an image: rows of the same number are equal (see
            :func:`vlcam.adapters.once_per_image.once_per_image`). None: every row is an image of
            its own.
    """

    maps: Tensor
    rest: Mapping[str, Tensor] = field(default_factory=dict)
    image: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.maps.device

    def rows(self, index: Tensor) -> FeatureMaps:
        """The rows at ``index`` (N,), in its order, repeated where it repeats them."""
        return FeatureMaps(
            self.maps.index_select(0, index),
            {name: tensor.index_select(0, index) for name, tensor in self.rest.items()},
            index if self.image is None else self.image.index_select(0, index),
        )

    def copy(self) -> FeatureMaps:
        """The same values in memory of their own: a model may write into its input, and the maps
        are used again."""
        return self.rows(torch.arange(len(self.maps), device=self.device))

    def one(self, row: int) -> FeatureMaps:
        """One image's row, by itself."""
        some = slice(row, row + 1)
        return FeatureMaps(self.maps[some], {name: t[some] for name, t in self.rest.items()})

    @classmethod
    def of(cls, images: Sequence[FeatureMaps]) -> FeatureMaps:
        """Several images' feature maps (one row each) as one."""
        return cls(
            torch.cat([one.maps for one in images]),
            {name: torch.cat([one.rest[name] for one in images]) for name in images[0].rest},
        )


@dataclass(frozen=True, repr=False)
class Unit(Brief):
    """One thing that can be explained under a prompt: a word of a caption, an answer.

    Attributes:
        text: as written.
        scores: the columns of ``decode``'s scores whose sum is this unit's score (a word made of
            several tokens has several).
        unknown: the model has no such word, so it has no score for it to explain.
    """

    text: str
    scores: tuple[int, ...]
    unknown: bool = False


@dataclass(frozen=True, repr=False)
class Reading(Brief):
    """A text as the model reads it.

    Attributes:
        text: as written.
        prompt: what to decode under.
        units: what can be explained under it, in order: the words of a caption; the answers to a
            question.
    """

    text: str
    prompt: Prompt
    units: tuple[Unit, ...]


@dataclass(frozen=True, repr=False)
class Question(Brief):
    """A question as a VQA model reads it.

    Attributes:
        text: as written.
        prompt: what to decode under.
        unknown: its words that the model does not know.
    """

    text: str
    prompt: Prompt
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class OwnAttention(Brief):
    """A model's own attention to a photo: where it attends under a prompt, whatever its answer; of
    a model that writes, for each token of its text.

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
        layers: names that :meth:`cut_at` takes, from the first to the last; empty: they are
            not listed here.
        module: everything that ``encode`` and ``decode`` run. vlcam runs it in eval mode, and
            leaves it as it was: weights, flags, gradients, hooks.
        encode_reads_prompt: whether the feature maps depend on the prompt (single-stream
            transformers). Then ``encode`` runs once per prompt instead of once per image.
        sees_pixels: whether the model is fed pixels. False: it is fed what was made of the photo
            beforehand (features of regions); :meth:`prepare_file` gives that in their place, and
            methods at the pixels are refused.
        writes_pixels: whether ``encode`` may write into the pixels it is given; it is then given a
            copy.
        beams: width of the beam search it writes with where none is asked for; 1 is greedy.
        thread_safe: whether several threads may use the adapter at once, as an evaluation then
            does. Not where a call leaves state in the adapter for the next, or hooks the model.
    """

    name: str
    layer: str
    layers: Sequence[str] = ()
    module: nn.Module
    encode_reads_prompt: bool = False
    sees_pixels: bool = True
    writes_pixels: bool = True
    beams: int = 1
    thread_safe: bool = False

    @abstractmethod
    def prepare(self, photo: Image.Image) -> tuple[Tensor, Placement]:
        """Input pixels (3, H, W), normalised, of an RGB photo, and where the photo lies in them."""

    def prepare_file(self, photo: Image.Image, path: str) -> tuple[Tensor, Placement]:
        """As :meth:`prepare`, of a photo read from the file at ``path``: for models that need
        another file beside it (features of its regions).

        Raises:
            ValueError: that file is missing or damaged; the message names it.
        """
        return self.prepare(photo)

    def check_sees_pixels(self) -> None:
        """Raises ValueError where the model is not fed pixels, so that no map lies at them."""
        if not self.sees_pixels:
            raise ValueError(
                f"{self.name} is not fed pixels, so it has no maps at them; choose a method at the"
                " layer: grad-cam, hirescam"
            )

    def resize(self, size: tuple[int, int]) -> None:
        """From now on prepare photos to inputs of (height, width), of models that take any size.

        Raises:
            ValueError: this one takes its own size only.
        """
        raise ValueError(f"{self.name} takes photos at its own size only")

    def cut_at(self, layer: str | None) -> None:
        """From now on explain that layer; None: the default one. Adapters of several layers give
        it, and :meth:`at_layer` follows.

        Raises:
            ValueError: there is no such layer; here: it is any but the one there is.
        """
        if layer not in (None, self.layer):
            raise ValueError(
                f"{self.name} can be explained at layer {self.layer} alone, not at {layer!r}:"
                f" {type(self).__name__} gives no cut_at(layer)"
            )

    def at_layer(self, layer: str) -> Adapter:
        """An adapter of the same module (not a copy of it), explained at that layer; this one stays
        as it is.

        Raises:
            ValueError: there is no such layer, or this is the only one.
        """
        expect(layer, str, "layer", "its name")
        other = copy(self)
        other.cut_at(layer)
        return other

    def __repr__(self) -> str:
        name, layer = getattr(self, "name", "?"), getattr(self, "layer", "?")
        return f"<{type(self).__name__} {name} at layer {layer}>"

    @abstractmethod
    def encode(self, pixels: Tensor, prompts: Sequence[Prompt] | None = None) -> FeatureMaps:
        """The model up to the layer: pixels (B, 3, H, W) to feature maps (B, K, u, v).

        Image b depends on row b of the pixels alone. Called without autograd, or with it where a
        method asks for gradients at the pixels.

        Args:
            prompts: B prompts, one per image, where ``encode_reads_prompt``; else not given.
        """

    def encode_photo(self, pixels: Tensor) -> FeatureMaps | None:
        """Where ``encode_reads_prompt``: the part of ``encode`` that does not depend on the prompt,
        so that a photo that is asked again is not encoded again; :meth:`encode_prompt` does the
        rest. None: there is no such part."""
        return None

    def encode_prompt(self, photo: FeatureMaps, prompts: Sequence[Prompt]) -> FeatureMaps:
        """The rest of ``encode`` behind :meth:`encode_photo`: B rows under B prompts."""
        raise NotImplementedError(f"{self.name}: encode_photo without encode_prompt")

    def encoder(self) -> nn.Module | None:
        """The one module that is all of ``encode`` (or of :meth:`encode_photo`), pixels to feature
        maps; None: there is none. With it occlusion maps may be computed faster
        (``vlcam.attribution.incremental``)."""
        return None

    @abstractmethod
    def decode(
        self, features: FeatureMaps, prompts: Sequence[Prompt], wanted: Tensor | None = None
    ) -> Tensor:
        """Everything behind the layer: N rows of feature maps and N prompts to scores (N, S).

        Differentiable in ``features``, which it may overwrite. Row n depends on row n of the
        features and on prompt n alone.

        Args:
            features: N rows.
            prompts: N prompts, one per row.
            wanted: bool (N, W), W <= S: the scores that will be read. Any other need not be
                computed, and may be anything finite. None: all will be read.

        Returns:
            Scores before any softmax: logits of answers; or log-probabilities (nats), column l that
            of the prompt's token l given those before it.
        """

    def tiles(self, features: FeatureMaps) -> tuple[int, int]:
        """Rows and columns of tiles in which methods that pool over the cells do so, each tile by
        itself: ``alpha_k`` of Grad-CAM is then a tile's own. (1, 1): over all cells together, as
        the paper does."""
        return 1, 1

    def kept_bytes(self, features: FeatureMaps) -> int | None:
        """About how many bytes autograd keeps for one row of :meth:`decode` of such features: this
        decides how many rows are decoded first (later ones by what was measured then). None: it
        is guessed from the features' size."""
        return None

    def attention(
        self, features: FeatureMaps, prompt: Prompt, input_size: tuple[int, int]
    ) -> OwnAttention | None:
        """The model's own attention to one image under a prompt; None: it has none. Of a model that
        writes: a map for each token of the prompt's text, from the step that predicts it.

        Args:
            features: one row.
            input_size: (height, width) in pixels.
        """
        return None

    def attention_flow(self, prompt: Prompt) -> Flow | None:
        """How attention flows from the photo's patches (which are the layer's cells) to the scores
        under a prompt, for methods that follow it. None: the model has none they could follow."""
        return None

    def likeness(self, features: FeatureMaps) -> Likeness | None:
        """How like the model's training photos a photo is. None: the model does not know.

        Args:
            features: one row, as :meth:`encode` gives it; where ``encode_reads_prompt``, as
                :meth:`encode_photo` does.
        """
        return None

    @abstractmethod
    def grid(self, input_size: tuple[int, int]) -> Grid:
        """Where the layer's cells lie in an input of (height, width) pixels."""

    def cells(self, pixels: Tensor, placement: Placement) -> Cells:
        """Where the layer's cells lie in the input (1, 3, H, W) of one photo: as :meth:`grid`, but
        of models whose cells lie elsewhere in each photo, as regions do."""
        return self.grid((pixels.shape[2], pixels.shape[3]))

    def save(self, folder: Path) -> None:
        """Write the model as safetensors and JSON into ``folder``, from which :func:`vlcam.load`
        gives it again. ``vlcam convert`` gives an empty folder.

        Raises:
            ValueError: models of this kind cannot be written.
        """
        raise ValueError(f"{self.name}: models of this kind are not written to files")

    def describe(self) -> dict[str, Any]:
        """What a result should record of this model beside its name and layer, as JSON can hold
        it."""
        return {}


def check_is_adapter(model: object) -> None:
    """Raises ValueError for what is none, such as a bare module."""
    if not isinstance(model, Adapter):
        raise ValueError(
            f"the model is {described(model)}, expected an adapter"
            " (vlcam.wrap makes one of a module, vlcam.load of a file)"
        )
