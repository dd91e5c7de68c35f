"""What was found: for one photo and one text, a map for each word."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vlcam.geometry import Grid, Placement, degenerate, peak, place
from vlcam.writing import written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1


@dataclass(frozen=True)
class Word:
    """One explained word.

    Attributes:
        text: as written.
        log_probability: of the word given the photo and the words before it (nats).
        probability: its exponential, 0..1.
        peak: (x, y) of the map's greatest value, in photo pixels.
        degenerate: the map is constant (all-zero included) or not finite: there is no peak.
    """

    text: str
    log_probability: float
    probability: float
    peak: tuple[int, int]
    degenerate: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked, word by word. Made by :func:`vlcam.explain`.

    Attributes:
        photo: path or name of the photo.
        image: the photo as explained (upright RGB), uint8 (H, W, 3).
        model, layer, method, target: names of what made the maps.
        caption: the whole text.
        words: the explained words, in order, one a map.
        unknown: words of the text that the model does not know, which have no map.
        maps: raw maps, float32 (T, u, v): not normalised, not resized; signed where the method is.
        grid: where the maps' cells lie in the model's input.
        placement: where the input lies in the photo.
        details: versions, and what else the model had to say of itself.
    """

    photo: str
    image: np.ndarray
    model: str
    layer: str
    method: str
    target: str
    caption: str
    words: tuple[Word, ...]
    unknown: tuple[str, ...]
    maps: Tensor
    grid: Grid
    placement: Placement
    details: dict[str, Any] = field(default_factory=dict)

    def photo_map(self, index: int) -> np.ndarray:
        """Map of word ``index`` at photo size, float32 (H, W): raw values."""
        return place(self.maps[index], self.grid, self.placement).cpu().numpy()

    def photo_maps(self) -> Iterator[np.ndarray]:
        """The maps at photo size one by one (a dozen of a large photo are gigabytes)."""
        return (self.photo_map(index) for index in range(len(self.words)))

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as ``explanation.json`` has it."""
        words = [asdict(word) | {"peak": list(word.peak)} for word in self.words]
        return {
            "format": FORMAT,
            "photo": self.photo,
            "model": self.model,
            "layer": self.layer,
            "method": self.method,
            "target": self.target,
            "caption": self.caption,
            "words": words,
            "unknown": list(self.unknown),
            "grid": asdict(self.grid),
            "placement": asdict(self.placement),
            "details": self.details,
        }

    def save(self, directory: str | Path) -> None:
        """Write ``explanation.json`` and ``maps.npz`` (``maps``, ``photo_maps``, ``image``)."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        with written(directory / "maps.npz") as path:
            self._write_arrays(path)
        with written(directory / "explanation.json") as path:
            # What UTF-8 cannot hold (bytes in a photo's name) is escaped as JSON does it.
            text = json.dumps(self.to_json(), indent=1, ensure_ascii=False)
            path.write_text(f"{text}\n", "utf-8", errors="backslashreplace")

    def _write_arrays(self, path: Path) -> None:
        height, width = self.image.shape[:2]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, array in (("maps", self.maps.cpu().numpy()), ("image", self.image)):
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            header = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (len(self.words), height, width),
            }
            with archive.open("photo_maps.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                for photo_map in self.photo_maps():
                    file.write(photo_map.astype("<f4").tobytes())

    @classmethod
    def load(cls, directory: str | Path) -> Explanation:
        """Read what :meth:`save` wrote (no pickle is ever read).

        Raises:
            ValueError: a file is missing, damaged or of another format; it is named.
        """
        directory = Path(directory)
        path = directory / "explanation.json"
        try:
            data = json.loads(path.read_text("utf-8"))
            if data.get("format") != FORMAT:
                raise ValueError(f"format {data.get('format')!r}, expected {FORMAT}")
            values = _values(data)
            path = directory / "maps.npz"
            maps, image = _arrays(path)
            _check_arrays(maps, image, values)
        except Exception as error:  # whatever json, zipfile, zlib and numpy raise at damage
            reason = error.strerror if isinstance(error, OSError) else None
            reason = " ".join((reason or str(error) or type(error).__name__).split())
            raise ValueError(f"{path}: not a saved explanation ({reason})") from error
        return cls(**values, image=image, maps=torch.from_numpy(maps))

    def figure(self) -> Figure:
        """One tile a word, as in the paper's Figures 10 and 11 (matplotlib)."""
        from vlcam.figure import draw

        return draw(self)

    def html(self) -> str:
        """A self-contained page: point at a word, see its map over the photo."""
        from vlcam.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from vlcam.page import notebook

        return notebook(self)


def _values(data: dict[str, Any]) -> dict[str, Any]:
    """An explanation's fields from its JSON, all but the arrays."""
    placement = Placement(**{name: _pair(name, pair) for name, pair in data["placement"].items()})
    values: dict[str, Any] = {
        "words": tuple(_word(placement.photo_size, **word) for word in data["words"]),
        "unknown": tuple(data["unknown"]),
        "grid": Grid(**{name: _pair(name, pair) for name, pair in data["grid"].items()}),
        "placement": placement,
        "details": dict(data["details"]),
    }
    for name in ("photo", "model", "layer", "method", "target", "caption"):
        values[name] = data[name]
        if not isinstance(values[name], str):
            raise ValueError(f"{name} is not a text")
    texts = isinstance(data["unknown"], list) and all(isinstance(t, str) for t in data["unknown"])
    if not texts:
        raise ValueError("unknown is not a list of texts")
    return values


def _pair(name: str, pair: Any) -> tuple[Any, ...]:
    """A size (whole numbers), a scale or stride (positive), an offset or shift (any)."""
    kinds = (int,) if name.endswith("size") else (int, float)
    least = -math.inf if name in ("offset", "shift") else 0
    if len(pair) != 2 or not all(type(v) in kinds and least < v < math.inf for v in pair):
        raise ValueError(f"{name} is {pair!r}")
    return tuple(pair)


def _word(
    photo_size: tuple[int, int],
    *,
    text: Any,
    log_probability: Any,
    probability: Any,
    peak: Any,
    degenerate: Any,
) -> Word:
    numbers = isinstance(log_probability, int | float) and isinstance(probability, int | float)
    if not (isinstance(text, str) and numbers and isinstance(degenerate, bool)):
        raise ValueError(f"word {text!r}: not a text, numbers and true or false")
    x, y = peak
    inside = type(x) is type(y) is int and 0 <= x < photo_size[1] and 0 <= y < photo_size[0]
    if not inside:
        raise ValueError(f"word {text!r}: its peak {peak!r} is no pixel of the photo")
    return Word(text, log_probability, probability, (x, y), degenerate)


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as file:  # numpy leaves a damaged file open that it opened itself
        if file.read(4) != b"PK\x03\x04":  # numpy would take it for a pickle and advise to trust it
            raise ValueError("no archive of arrays")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["maps"], arrays["image"]


def _check_arrays(maps: np.ndarray, image: np.ndarray, values: dict[str, Any]) -> None:
    for name, array, kind, shape in (
        ("maps", maps, np.float32, (len(values["words"]), *values["grid"].size)),
        ("image", image, np.uint8, (*values["placement"].photo_size, 3)),
    ):
        if array.dtype != kind or array.shape != shape:
            raise ValueError(
                f"{name}: {array.dtype} {array.shape} does not fit explanation.json, which says"
                f" {np.dtype(kind)} {shape}"
            )


def explained_words(
    texts: list[str], scores: Tensor, maps: Tensor, grid: Grid, placement: Placement
) -> tuple[Word, ...]:
    """Words from their log-probabilities (T,) and raw maps (T, u, v)."""
    words = []
    flat = degenerate(maps)
    # A map is zero where the photo was cropped away, which may be more than it is anywhere else.
    unseen = place(torch.ones(1, *maps.shape[1:]), grid, placement) == 0
    for index, (text, value) in enumerate(zip(texts, scores.tolist(), strict=True)):
        drawn = place(maps[index : index + 1], grid, placement)
        (point,), _ = peak(drawn.masked_fill(unseen.to(drawn.device), -math.inf))
        words.append(Word(text, value, float(np.exp(min(value, 0.0))), point, flat[index]))
    return tuple(words)
