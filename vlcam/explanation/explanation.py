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

from vlcam.attribution.methods import METHODS
from vlcam.geometry.grid import Boxes, Cells, Grid, Placement, degenerate, peak, place
from vlcam.utils.atomic import written

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
        logit: of the answer, before softmax; of "A rather than B" the difference of the two. Of a
            model that writes its answers: log-probabilities (nats).
        probability: of the answer among all there are, 0..1; of "A rather than B" that of A among
            the two.
        peak, degenerate: as of a :class:`Word`.
    """

    text: str
    logit: float
    probability: float
    peak: tuple[int, int]
    degenerate: bool


@dataclass(frozen=True)
class Look:
    """One map of the model's own attention: under a question the same for every answer; of a text
    that a model writes, a word's.

    Attributes:
        text: what it is of: a level of the model, a layer; the word.
        peak, degenerate: as of a :class:`Word`.
    """

    text: str
    peak: tuple[int, int]
    degenerate: bool


@dataclass(frozen=True)
class Looked:
    """A model's own attention to the photo: a map for each :class:`Look`, (L, u, v), and where
    their cells lie in the model's input."""

    looks: tuple[Look, ...]
    maps: Tensor
    grid: Cells


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looked, word by word or answer by answer. Made by :func:`vlcam.explain`.

    Attributes:
        photo: path or name of the photo.
        image: the photo as explained (upright RGB), uint8 (H, W, 3).
        model, layer, method, target: names of what made the maps.
        caption: the whole text; of a question the answer the model wrote, if its words are
            explained, else empty.
        words: the explained words, in order, one a map.
        unknown: words of the caption, or of the question, that the model does not know.
        maps: raw maps, float32 (T, u, v): not normalised, not resized; signed where the method is.
        grid: where the maps' cells lie in the model's input.
        placement: where the input lies in the photo.
        details: versions, and what else the model had to say of itself.
        question: that was asked; None where a caption is explained.
        answers: the explained answers, in order, one a map.
        attention: of a model that has an attention of its own: a look a word, or whatever the
            answer.
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
    grid: Cells
    placement: Placement
    details: dict[str, Any] = field(default_factory=dict)
    question: str | None = None
    answers: tuple[Answer, ...] = ()
    attention: Looked | None = None

    @property
    def text(self) -> str:
        """The caption, or the question."""
        return self.caption if self.question is None else self.question

    @property
    def by_word(self) -> bool:
        """Whether words are explained: of a caption, or of an answer that the model wrote."""
        return self.question is None or bool(self.words)

    @property
    def items(self) -> Sequence[Word | Answer | Look]:
        """What has a map each: the words or the answers, and then the model's own looks."""
        said = self.words if self.by_word else self.answers
        return (*said, *(self.attention.looks if self.attention else ()))

    @property
    def caveat(self) -> str | None:
        """What whoever looks at maps of this method should know."""
        method = METHODS.get(self.method)
        return method.caveat if method else None

    def map(self, index: int) -> tuple[Tensor, Cells]:
        """The raw map (u, v) of item ``index``, and where its cells lie in the input."""
        if index < len(self.maps):
            return self.maps[index], self.grid
        assert self.attention is not None
        return self.attention.maps[index - len(self.maps)], self.attention.grid

    def photo_map(self, index: int) -> np.ndarray:
        """Map of item ``index`` at photo size, float32 (H, W): raw values."""
        return place(*self.map(index), self.placement).cpu().numpy()

    def photo_maps(self) -> Iterator[np.ndarray]:
        """The maps at photo size one by one (a dozen of a large photo are gigabytes)."""
        return (self.photo_map(index) for index in range(len(self.items)))

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as ``explanation.json`` has it."""
        said: dict[str, Any] = {} if self.question is None else {"question": self.question}
        if self.by_word:
            said |= {"caption": self.caption, "words": _as_json(self.words)}
        else:
            said["answers"] = _as_json(self.answers)
        if self.attention is not None:
            looks, grid = _as_json(self.attention.looks), _grid_as_json(self.attention.grid)
            said["attention"] = {"looks": looks, "grid": grid}
        return {
            "format": FORMAT,
            "photo": self.photo,
            "model": self.model,
            "layer": self.layer,
            "method": self.method,
            "target": self.target,
            **said,
            "unknown": list(self.unknown),
            "grid": _grid_as_json(self.grid),
            "placement": asdict(self.placement),
            "details": self.details,
        }

    def save(self, directory: str | Path) -> None:
        """Write ``explanation.json`` and ``maps.npz`` (``maps``, ``photo_maps``, ``image``, and
        ``attention`` where there is one)."""
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
            arrays = {"maps": self.maps.cpu().numpy(), "image": self.image}
            if self.attention is not None:
                arrays["attention"] = self.attention.maps.cpu().numpy()
            for name, array in arrays.items():
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
            arrays = _arrays(path)
            _check_arrays(arrays, values)
        except Exception as error:  # whatever json, zipfile, zlib and numpy raise at damage
            reason = error.strerror if isinstance(error, OSError) else None
            reason = " ".join((reason or str(error) or type(error).__name__).split())
            raise ValueError(f"{path}: not a saved explanation ({reason})") from error
        if values["attention"]:
            looks, grid = values["attention"]
            values["attention"] = Looked(looks, torch.from_numpy(arrays["attention"]), grid)
        maps = torch.from_numpy(arrays["maps"])
        return cls(**values, image=arrays["image"], maps=maps)

    def figure(self) -> Figure:
        """One tile a word or answer, as in the paper's Figures 10 to 12 (matplotlib)."""
        from vlcam.explanation.figure import draw

        return draw(self)

    def html(self) -> str:
        """A self-contained page: point at a word, see its map over the photo."""
        from vlcam.explanation.page import page

        return page(self)

    def _repr_html_(self) -> str:
        from vlcam.explanation.page import notebook

        return notebook(self)


def _values(data: dict[str, Any]) -> dict[str, Any]:
    """An explanation's fields from its JSON, all but the arrays."""
    placement = Placement(**{name: _pair(name, pair) for name, pair in data["placement"].items()})
    by_word = "words" in data
    kind, name = (Word, "words") if by_word else (Answer, "answers")
    items = tuple(_item(kind, placement.photo_size, item) for item in data[name])
    values: dict[str, Any] = {
        **({"words": items} if by_word else {"caption": "", "words": (), "answers": items}),
        "unknown": tuple(data["unknown"]),
        "grid": _grid(data["grid"]),
        "placement": placement,
        "details": dict(data["details"]),
    }
    values["attention"] = _attention(placement, data.get("attention"))
    texts = ["caption"] if by_word else []
    texts += ["question"] if "question" in data or not by_word else []
    for name in ("photo", "model", "layer", "method", "target", *texts):
        values[name] = data[name]
        if not isinstance(values[name], str):
            raise ValueError(f"{name} is not a text")
    unknown = data["unknown"]
    if not (isinstance(unknown, list) and all(isinstance(text, str) for text in unknown)):
        raise ValueError("unknown is not a list of texts")
    return values


def _as_json(items: Sequence[Word | Answer | Look]) -> list[dict[str, Any]]:
    return [asdict(item) | {"peak": list(item.peak)} for item in items]


def _grid_as_json(grid: Cells) -> dict[str, Any]:
    return {name: value for name, value in asdict(grid).items() if value is not None}


def _grid(data: Any) -> Cells:
    if set(data) == {"boxes"}:
        return Boxes(tuple(_box(edges) for edges in data["boxes"]))
    values = {name: _pair(name, pair) for name, pair in data.items() if name != "centres"}
    if "centres" not in data:
        return Grid(**values)
    rows, columns = (_ascending(axis) for axis in data["centres"])
    if (len(rows), len(columns)) != values["size"]:
        raise ValueError(f"{len(rows)} x {len(columns)} centres of {values['size']} cells")
    return Grid(**values, centres=(rows, columns))


def _attention(placement: Placement, data: Any) -> tuple[tuple[Any, ...], Cells] | None:
    """The looks, and their maps' grid."""
    if data is None:
        return None
    looks = tuple(_item(Look, placement.photo_size, item) for item in data["looks"])
    return looks, _grid(data["grid"])


def _ascending(centres: Any) -> tuple[float, ...]:
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in centres)
    if not numbers or sorted(centres) != list(centres):
        raise ValueError("centres of cells that do not ascend")
    return tuple(centres)


def _box(edges: Any) -> tuple[Any, ...]:
    if len(edges) != 4 or not all(type(v) in (int, float) and math.isfinite(v) for v in edges):
        raise ValueError(f"a box is {edges!r}")
    return tuple(edges)


def _pair(name: str, pair: Any) -> tuple[Any, ...]:
    """A size (whole numbers), a scale or stride (positive), an offset or shift (any)."""
    kinds = (int,) if name.endswith("size") else (int, float)
    least = -math.inf if name in ("offset", "shift") else 0
    if len(pair) != 2 or not all(type(v) in kinds and least < v < math.inf for v in pair):
        raise ValueError(f"{name} is {pair!r}")
    return tuple(pair)


_NUMBERS: dict[type, tuple[str, ...]] = {
    Word: ("log_probability", "probability"),
    Answer: ("logit", "probability"),
    Look: (),
}


def _item(kind: type, photo_size: tuple[int, int], data: Any) -> Any:
    """A word, an answer or a look from its JSON."""
    values = [data[name] for name in _NUMBERS[kind] if name in data]
    if set(data) != {"text", *_NUMBERS[kind], "peak", "degenerate"}:
        raise ValueError(f"{kind.__name__.lower()} with {', '.join(sorted(data))}")
    text = data["text"]
    numbers = all(isinstance(value, int | float) for value in values)
    if not (isinstance(text, str) and numbers and isinstance(data["degenerate"], bool)):
        raise ValueError(f"{text!r}: not a text, numbers and true or false")
    x, y = data["peak"]
    inside = type(x) is type(y) is int and 0 <= x < photo_size[1] and 0 <= y < photo_size[0]
    if not inside:
        raise ValueError(f"{text!r}: its peak {data['peak']!r} is no pixel of the photo")
    return kind(text, *values, (x, y), data["degenerate"])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:  # numpy leaves a damaged file open that it opened itself
        if file.read(4) != b"PK\x03\x04":  # numpy would take it for a pickle and advise to trust it
            raise ValueError("no archive of arrays")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            names = ("maps", "image", "attention")
            return {name: arrays[name] for name in names if name in arrays}


def _check_arrays(arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
    count = len(values.get("answers") or values["words"])
    expected: dict[str, tuple[type, tuple[int, ...]]] = {
        "maps": (np.float32, (count, *values["grid"].size)),
        "image": (np.uint8, (*values["placement"].photo_size, 3)),
    }
    if values["attention"]:
        looks, grid = values["attention"]
        expected["attention"] = (np.float32, (len(looks), *grid.size))
    for name, (kind, shape) in expected.items():
        array = arrays[name]
        if array.dtype != kind or array.shape != shape:
            raise ValueError(
                f"{name}: {array.dtype} {array.shape} does not fit explanation.json, which says"
                f" {np.dtype(kind)} {shape}"
            )


def explained_words(
    texts: list[str], scores: Tensor, maps: Tensor, grid: Cells, placement: Placement
) -> tuple[Word, ...]:
    """Words from their log-probabilities (T,) and raw maps (T, u, v)."""
    values = scores.tolist()
    return tuple(
        Word(text, value, float(np.exp(min(value, 0.0))), point, flat)
        for text, value, (point, flat) in zip(
            texts, values, peaks(maps, grid, placement), strict=True
        )
    )


def peaks(
    maps: Tensor, grid: Cells, placement: Placement
) -> Iterator[tuple[tuple[int, int], bool]]:
    """Of each raw map (T, u, v): its peak (x, y) in photo pixels, and whether it is degenerate."""
    # A map is zero where the photo was cropped away, which may be more than it is anywhere else.
    unseen = place(torch.ones(1, *maps.shape[1:]), grid, placement) == 0
    for index, flat in enumerate(degenerate(maps)):
        drawn = place(maps[index : index + 1], grid, placement)
        (point,), _ = peak(drawn.masked_fill(unseen.to(drawn.device), -math.inf))
        yield point, flat
