"""How faithful the maps of a captioner's words are to the model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import torch

import word_maps
from captioning.language.captioner import Captioner
from vlcam.adapters.adapter import Adapter, Unit
from vlcam.attribution import targets
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.occlusion import Patch
from vlcam.attribution.targets import Target
from vlcam.evaluation.experiment import Item, sample
from vlcam.evaluation.faithfulness_experiment import Faithfulness, Occluded
from vlcam.explaining import beam_of
from vlcam.photo.loading import is_picture
from vlcam.utils.untouched import untouched


class OfWords(Faithfulness):
    """Faithfulness of the maps of visual words, in the captions that a model writes of photos.

    Args:
        photos: a folder.
        words: at most so many of a caption.
        limit: so many photos, chosen by ``seed``.

    Raises:
        ValueError: there is no such folder.
    """

    kind: ClassVar = "captioner"

    def __init__(
        self,
        photos: Path,
        *,
        patch: Patch | None = None,
        with_curves: bool = True,
        words: int = 3,
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(patch or Patch(), with_curves, seed)
        if not photos.is_dir():
            raise ValueError(f"{photos}: no such folder")
        self.photos, self.words, self.limit = photos, words, limit

    def settings(self) -> dict[str, Any]:
        own = {"photos": str(self.photos), "words": self.words, "limit": self.limit}
        return self.measures() | own

    @cached_property
    def items(self) -> Sequence[Item]:
        found = sorted(p for p in self.photos.iterdir() if is_picture(p))
        return [Item(path.name, path) for path in sample(found, self.limit, self.seed)]

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> Occluded:
        asked = self.targets(model, photo)
        if not asked:
            raise ValueError("no visual word in the model's caption")
        return self.occluded(model, item, photo, asked)

    def targets(self, model: Adapter, photo: Encoded) -> list[Target]:
        """The visual words of the caption that a model writes of a photo."""
        with untouched(model.module), torch.no_grad():
            reading = cast(Captioner, model).write(photo.seen(model), beam_of(model, None))
        texts = [unit.text for unit in reading.units]
        asked = []
        for start, stop, _ in word_maps.visual_words(texts)[: self.words]:
            columns = tuple(c for unit in reading.units[start:stop] for c in unit.scores)
            asked.append(targets.unit(reading, Unit(" ".join(texts[start:stop]), columns)))
        return asked
