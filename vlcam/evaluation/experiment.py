"""What an experiment is: photos, what a model is asked about each, and what its maps are worth.

An experiment knows no engine: the runner encodes a photo once, explains what is asked of it by
every method, and hands the maps back to be scored. Whatever is scored becomes a *record*.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from vlcam.adapters.adapter import Adapter
from vlcam.attribution.encoding import Encoded
from vlcam.attribution.maps import TargetMaps
from vlcam.attribution.targets import Target
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.summary import Summary
from vlcam.metrics.pointing import Mask

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Item:
    """A photo of an experiment.

    Attributes:
        name: what records and messages call it.
        photo: its file.
    """

    name: str
    photo: Path


@dataclass(frozen=True)
class Asked:
    """A photo, encoded, and what is to be explained of it. Experiments add what they score by.

    Attributes:
        skipped: a line for each thing that could not be asked.
    """

    item: Item
    photo: Encoded
    targets: list[Target]
    skipped: tuple[str, ...] = field(default=(), kw_only=True)


AskedPhoto = TypeVar("AskedPhoto", bound=Asked)
"""An experiment's own kind of :class:`Asked`."""


def sample(things: Sequence[Thing], limit: int | None, seed: int) -> list[Thing]:
    """At most ``limit`` of some things, chosen by ``seed``, in their order."""
    if limit is None or limit >= len(things):
        return list(things)
    rows = np.random.default_rng(seed).permutation(len(things))[:limit]
    return [things[row] for row in sorted(rows.tolist())]


class Experiment(ABC, Generic[AskedPhoto]):
    """A measurement over many photos.

    Attributes:
        name: in ``vlcam evaluate NAME``.
        title: of its results.
        kind: of the models it takes.
        columns: of its records, and the type of each: ``str``, ``int``, ``float`` or ``bool``.
            Among them ``image``, the item's name; ``map``, the method's name or a baseline's; and
            ``target``, the place of what was explained among the item's targets (-1: nothing was).
        worth: the column by which maps are called good or bad.
        worth_says: what its value says of a map, with the value in braces, as in
            ``correlation {:.2f}``; empty: its name and value are told.
        batch: photos that are encoded and explained together.
        scores_by_model: whether :meth:`score` or :meth:`baselines` run the model.
    """

    name: ClassVar[str]
    title: str
    kind: ClassVar[Literal["captioner", "vqa"]]
    columns: ClassVar[Mapping[str, type]]
    worth: ClassVar[str]
    worth_says: ClassVar[str] = ""
    batch: ClassVar[int] = 16
    scores_by_model: ClassVar[bool] = False

    @property
    def says(self) -> str:
        """What the value of a map says, with the value in braces."""
        return self.worth_says or f"{self.worth} {{:.2f}}"

    @property
    @abstractmethod
    def items(self) -> Sequence[Item]:
        """The photos, in an order that only the settings decide."""

    @property
    def skipped(self) -> Sequence[str]:
        """A line for each thing of the data that cannot be used."""
        return ()

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that its records depend on, besides model and methods; plain values."""

    def write(self, model: Adapter, photos: Sequence[Encoded]) -> Sequence[Any]:
        """What the model itself writes of each photo of a batch, if :meth:`ask` is to know."""
        return [None] * len(photos)

    @abstractmethod
    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> AskedPhoto:
        """What to explain of a photo.

        Args:
            written: of the photo, by :meth:`write`.

        Raises:
            ValueError: the item cannot be used; it is counted and listed.
        """

    @abstractmethod
    def score(
        self, model: Adapter, asked: AskedPhoto, method: str, found: TargetMaps
    ) -> Iterator[Record]:
        """Records of one method's maps, one a target."""

    @abstractmethod
    def baselines(self, model: Adapter, asked: AskedPhoto) -> Iterator[Record]:
        """Records of what needs no explanation, and of what could not be asked."""

    def label(self, record: Record) -> str:
        """What a record is about, for a picture of its map."""
        return str(record["map"])

    def outline(self, asked: AskedPhoto, which: int) -> Mask | None:
        """What the map of a target should be on, at photo size (H, W), where it is known."""
        return None

    @abstractmethod
    def summarise(self, records: Columns) -> Summary:
        """The tables of all records. A pure function of them."""
