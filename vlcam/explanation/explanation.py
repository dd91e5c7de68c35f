"""An explanation: what was found in a photo, and how it is saved, loaded and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.explanation import saving
from vlcam.explanation.result import Result

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Result):
    """Where a model looked, word by word or answer by answer. Made by :func:`vlcam.explain`; its
    fields are those of a :class:`Result`."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as ``explanation.json`` has it."""
        return saving.to_json(self)

    def save(self, directory: str | Path) -> None:
        """Write ``explanation.json`` and ``maps.npz`` (``maps``, ``image``, and ``attention`` where
        there is one); maps at photo size are :meth:`photo_maps` of what :meth:`load` gives back."""
        saving.save(self, Path(directory))

    @classmethod
    def load(cls, directory: str | Path) -> Explanation:
        """Read what :meth:`save` wrote (no pickle is ever read).

        Raises:
            ValueError: a file is missing, damaged or of another format; it is named.
        """
        return cls(**saving.read(Path(directory)))

    def to_frame(self) -> pandas.DataFrame:
        """A table in pandas, a row for each word or answer (:mod:`vlcam.explanation.frame`).

        Raises:
            ValueError: pandas is not installed.
        """
        from vlcam.explanation.frame import frame

        return frame(self)

    def figure(self) -> Figure:
        """One tile per word or answer, as in the paper's Figures 10 to 12 (matplotlib)."""
        from vlcam.explanation.figure import draw

        return draw(self)

    def html(self) -> str:
        """A self-contained page: point at a word, see its map over the photo."""
        from vlcam.explanation.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from vlcam.explanation.page import notebook

        return notebook(self)
