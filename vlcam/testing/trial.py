"""What the promises are tried on: an adapter, two photos as it prepares and encodes them, and what
is asked about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vlcam.adapters.adapter import Adapter, FeatureMaps, Prompt, Question
from vlcam.adapters.asking import WritesAnswers
from vlcam.adapters.scores import decoded
from vlcam.attribution import targets
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import seam_gradients
from vlcam.attribution.targets import Target, Term
from vlcam.explaining import beam_of
from vlcam.utils.messages.errors import one_line
from vlcam.utils.untouched import untouched

_QUESTION = "what is this?"  # where a VQA model is given none
_ANSWERS = 8  # whose scores are explained
_EQUAL = {torch.float64: 1e-9, torch.float32: 1e-4}
"""How much values may differ, relative to the largest: kernels for one row and for many differ."""
_ABOUT_EQUAL = 2e-2  # the same in half precision


class BrokenError(Exception):
    """The adapter is so broken that nothing else can be tried. The message says how."""


@dataclass
class Trial:
    """What the promises are tried on.

    Attributes:
        adapter: the one to check.
        pixels: of two photos, (1, 3, H, W) each.
        features: of each.
        asked: the targets.
        question: they are answers to, of a model that chooses among answers; None: there is none.
        alone: of a caption, its first word and the same word without those behind it.
    """

    adapter: Adapter
    pixels: list[Tensor]
    features: list[FeatureMaps]
    asked: list[Target]
    question: Question | None = None
    alone: tuple[Target, Target] | None = None

    @property
    def prompts(self) -> list[Prompt]:
        """Those of the targets, in order."""
        return list(dict.fromkeys(term.prompt for target in self.asked for term in target.terms))

    @classmethod
    def make(
        cls,
        adapter: Adapter,
        photos: Sequence[Image.Image],
        *,
        caption: str | None,
        question: str | None,
        asked: Sequence[Target] | None,
    ) -> Trial:
        """Prepares and encodes the photos, and reads what is asked.

        Raises:
            BrokenError: the adapter fails in it.
            ValueError: as of :func:`check_adapter`.
        """
        understood, alone = None, None
        pixels = [_prepared(adapter, photo) for photo in photos]
        if pixels[0].shape != pixels[1].shape:
            raise BrokenError("prepare: photos of one size become inputs of different sizes")
        if asked is None and not _writes(adapter):
            understood, asked = _of_question(adapter, caption, question)
        prompts = None
        if adapter.encode_reads_prompt:
            if asked is None:
                raise ValueError(
                    f"{adapter.name}: its feature maps depend on the prompt: give asked"
                )
            prompts = [asked[0].terms[0].prompt]
        try:
            features = [encode(adapter, some, prompts) for some in pixels]
        except Exception as error:
            raise BrokenError(f"encode: it failed ({one_line(error)})") from error
        if asked is None:
            asked, alone = _of_caption(adapter, features[0], caption)
        return cls(adapter, pixels, features, list(asked), understood, alone)

    @property
    def chooses(self) -> bool:
        """Whether the adapter has a score for each of its answers."""
        return hasattr(self.adapter, "understand") and not isinstance(self.adapter, WritesAnswers)

    def decode(
        self,
        pairs: Sequence[tuple[int, Prompt]],
        wanted: Tensor | None = None,
        *,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Scores of photos under prompts, one row each, without gradients; of their feature maps,
        or of what ``change`` makes of these."""
        rows = FeatureMaps.of([self.features[photo] for photo, _ in pairs])
        rows = rows if change is None else FeatureMaps(change(rows.maps), rows.rest)
        with untouched(self.adapter.module), torch.no_grad():
            return decoded(self.adapter, rows, [prompt for _, prompt in pairs], wanted)

    def read_columns(self, prompt: Prompt) -> list[int]:
        """The columns of the scores that the targets read under a prompt."""
        terms = [term for target in self.asked for term in target.terms if term.prompt == prompt]
        return sorted({column for term in terms for column in term.scores})

    def gradients(self, asked: Sequence[Target]) -> Tensor:
        """The gradients of targets with respect to the feature maps, (T, K, u, v)."""
        chunks = seam_gradients(self.adapter, self.features[0], asked)
        return torch.cat([chunk.gradients for chunk in chunks])


def _writes(adapter: Adapter) -> bool:
    """Whether it is a captioner."""
    return hasattr(adapter, "write") and not isinstance(adapter, WritesAnswers)


def _prepared(adapter: Adapter, photo: Image.Image) -> Tensor:
    """Pixels (1, 3, H, W) of a photo, in the module's type; BrokenError where they are wrong."""
    try:
        pixels, placement = adapter.prepare(photo)
    except Exception as error:
        raise BrokenError(f"prepare: it failed ({one_line(error)})") from error
    size = (photo.height, photo.width)
    if pixels.ndim != 3 or len(pixels) != 3 or not pixels.is_floating_point():
        raise BrokenError(
            f"prepare: gives {tuple(pixels.shape)} {pixels.dtype}, expected floats (3, H, W)"
        )
    if tuple(placement.photo_size) != size:
        raise BrokenError(
            f"prepare: its placement is of a photo of {placement.photo_size} (height, width), the"
            f" photo is {size}"
        )
    if tuple(placement.input_size) != tuple(pixels.shape[1:]):
        raise BrokenError(
            f"prepare: its placement is in an input of {placement.input_size}, the pixels are"
            f" {tuple(pixels.shape[1:])}"
        )
    first = next(adapter.module.parameters(), pixels)
    return pixels[None].to(first.device, first.dtype)


def _of_question(
    adapter: Any, caption: str | None, question: str | None
) -> tuple[Question | None, list[Target]]:
    """Targets of a VQA model: logits of its first answers, and the question they answer; or words
    of one that it could write."""
    if not hasattr(adapter, "understand"):
        raise ValueError(f"{adapter.name} reads neither captions nor questions: give asked")
    question = question or getattr(adapter, "question", None) or _QUESTION
    try:
        understood = adapter.understand(question)
        if isinstance(adapter, WritesAnswers):
            return None, targets.units(adapter.read_answer(understood, caption or "a dog"))
        return understood, targets.units(adapter.read(understood), "logit")[:_ANSWERS]
    except ValueError:
        raise  # it knows no word of it, say
    except Exception as error:
        raise BrokenError(f"understand, read: they failed ({one_line(error)})") from error


def _of_caption(
    adapter: Any, features: FeatureMaps, caption: str | None
) -> tuple[list[Target], tuple[Target, Target] | None]:
    """Targets of a captioner: the words of a caption, and that of a shorter one; the first word in
    both."""
    with untouched(adapter.module), torch.no_grad():
        if caption is None:
            reading = adapter.write(features, beam_of(adapter, None))
        else:
            reading = adapter.read(caption)
    words = targets.units(reading)
    prompt: Any = reading.prompt
    if len(words) > 1 and isinstance(prompt, tuple):
        first = next(unit for unit in reading.units if not unit.unknown)
        short = prompt[: max(first.scores) + 1]
        words.append(Target(f"{first.text} alone", (Term(1.0, short, first.scores),)))
        return words, (words[0], words[-1])
    return words, None


def close(found: Tensor, expected: Tensor, *computed_in: torch.dtype) -> bool:
    """Whether values are equal but for rounding, in their type and those they were computed in."""
    limit = max(_EQUAL.get(kind, _ABOUT_EQUAL) for kind in (expected.dtype, *computed_in))
    numbers = expected[expected.isfinite()]
    scale = (float(numbers.abs().max()) if len(numbers) else 0.0) or 1.0
    if found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, rtol=0, atol=limit * scale, equal_nan=True)


def size_of(pixels: Tensor) -> tuple[int, int]:
    """(height, width) of pixels (B, 3, H, W)."""
    return pixels.shape[2], pixels.shape[3]


def noise(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A photo of coloured noise of (width, height)."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator)
    return Image.fromarray(pixels.numpy())
