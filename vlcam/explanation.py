"""What was found: for one photo, a map for each word of a caption or each answer to a question."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Answer:
    """One explained answer, or one rather than another.

    Attributes:
        text: as the model has it.
        logit: of the answer, before softmax; of "A rather than B" the difference of the two.
        probability: of the answer among all there are, 0..1; of "A rather than B" that of A among
            the two.
        peak, degenerate: as of a :class:`Word`.
    """

    text: str
    logit: float
    probability: float
    peak: tuple[int, int]
    degenerate: bool


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked, word by word or answer by answer. Made by :func:`vlcam.explain`.

    Attributes:
        photo: path or name of the photo.
        image: the photo as explained (upright RGB), uint8 (H, W, 3).
        model, layer, method, target: names of what made the maps.
        caption: the whole text; empty where a question was asked.
        words: the explained words, in order, one a map.
        unknown: words of the caption, or of the question, that the model does not know.
        maps: raw maps, float32 (T, u, v): not normalised, not resized; signed where the method is.
        grid: where the maps' cells lie in the model's input.
        placement: where the input lies in the photo.
        details: versions, and what else the model had to say of itself.
        question: that was asked; None where a caption is explained.
        answers: the explained answers, in order, one a map.
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
    question: str | None = None
    answers: tuple[Answer, ...] = ()

    @property
    def text(self) -> str:
        """The caption, or the question."""
        return self.caption if self.question is None else self.question

    @property
    def items(self) -> Sequence[Word | Answer]:
        """What has a map each: the words, or the answers."""
        return self.words if self.question is None else self.answers

    def photo_map(self, index: int) -> np.ndarray:
        """Map of item ``index`` at photo size, float32 (H, W): raw values."""
        return place(self.maps[index], self.grid, self.placement).cpu().numpy()

    def photo_maps(self) -> Iterator[np.ndarray]:
        """The maps at photo size one by one (a dozen of a large photo are gigabytes)."""
        return (self.photo_map(index) for index in range(len(self.items)))

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as ``explanation.json`` has it."""
        items = [asdict(item) | {"peak": list(item.peak)} for item in self.items]
        said: dict[str, Any] = {"caption": self.caption, "words": items}
        if self.question is not None:
            said = {"question": self.question, "answers": items}
        return {
            "format": FORMAT,
            "photo": self.photo,
            "model": self.model,
            "layer": self.layer,
            "method": self.method,
            "target": self.target,
            **said,
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
                "shape": (len(self.items), height, width),
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
        """One tile a word or answer, as in the paper's Figures 10 to 12 (matplotlib)."""
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
    asked = "question" in data
    kind, names = (Answer, ("question", "answers")) if asked else (Word, ("caption", "words"))
    items = tuple(_item(kind, placement.photo_size, item) for item in data[names[1]])
    values: dict[str, Any] = {
        **({"caption": "", "words": (), "answers": items} if asked else {"words": items}),
        "unknown": tuple(data["unknown"]),
        "grid": Grid(**{name: _pair(name, pair) for name, pair in data["grid"].items()}),
        "placement": placement,
        "details": dict(data["details"]),
    }
    for name in ("photo", "model", "layer", "method", "target", names[0]):
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


def _item(kind: type[Word] | type[Answer], photo_size: tuple[int, int], data: Any) -> Word | Answer:
    """A word or an answer from its JSON."""
    score = "log_probability" if kind is Word else "logit"
    if set(data) != {"text", score, "probability", "peak", "degenerate"}:
        raise ValueError(f"{kind.__name__.lower()} with {', '.join(sorted(data))}")
    text = data["text"]
    numbers = all(isinstance(data[name], int | float) for name in (score, "probability"))
    if not (isinstance(text, str) and numbers and isinstance(data["degenerate"], bool)):
        raise ValueError(f"{text!r}: not a text, numbers and true or false")
    x, y = data["peak"]
    inside = type(x) is type(y) is int and 0 <= x < photo_size[1] and 0 <= y < photo_size[0]
    if not inside:
        raise ValueError(f"{text!r}: its peak {data['peak']!r} is no pixel of the photo")
    return kind(text, data[score], data["probability"], (x, y), data["degenerate"])


def _arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as file:  # numpy leaves a damaged file open that it opened itself
        if file.read(4) != b"PK\x03\x04":  # numpy would take it for a pickle and advise to trust it
            raise ValueError("no archive of arrays")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return arrays["maps"], arrays["image"]


def _check_arrays(maps: np.ndarray, image: np.ndarray, values: dict[str, Any]) -> None:
    count = len(values.get("answers") or values["words"])
    for name, array, kind, shape in (
        ("maps", maps, np.float32, (count, *values["grid"].size)),
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
    values = scores.tolist()
    return tuple(
        Word(text, value, float(np.exp(min(value, 0.0))), point, flat)
        for text, value, (point, flat) in zip(
            texts, values, peaks(maps, grid, placement), strict=True
        )
    )


def peaks(maps: Tensor, grid: Grid, placement: Placement) -> Iterator[tuple[tuple[int, int], bool]]:
    """Of each raw map (T, u, v): its peak (x, y) in photo pixels, and whether it is degenerate."""
    # A map is zero where the photo was cropped away, which may be more than it is anywhere else.
    unseen = place(torch.ones(1, *maps.shape[1:]), grid, placement) == 0
    for index, flat in enumerate(degenerate(maps)):
        drawn = place(maps[index : index + 1], grid, placement)
        (point,), _ = peak(drawn.masked_fill(unseen.to(drawn.device), -math.inf))
        yield point, flat
