"""An explanation in files: ``explanation.json`` and ``maps.npz``."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlcam.explanation.result import Answer, AttentionMap, AttentionMaps, Result, Word
from vlcam.formats.arrays import read_arrays
from vlcam.formats.world import Likeness
from vlcam.geometry.grid import Boxes, Cells, Grid, Placement
from vlcam.utils.files.atomic import folder_written, recover
from vlcam.utils.files.input_files import read_bytes
from vlcam.utils.messages.expected import described

FORMAT = 2
"""Format 1 also held the maps at photo size, half a gigabyte of a large photo; they are made from
the raw maps and their geometry when asked for."""

_LONGEST = 300  # characters of what is wrong

_NAMES: dict[type, str] = {Word: "word", Answer: "answer", AttentionMap: "look"}
"""What the file calls them."""

_NUMBERS: dict[type, tuple[str, ...]] = {
    Word: ("log_probability", "probability"),
    Answer: ("logit", "probability"),
    AttentionMap: (),
}
"""The numbers each has beside its text and peak."""


def to_json(result: Result) -> dict[str, Any]:
    """Everything but the arrays, as ``explanation.json`` has it."""
    said: dict[str, Any] = {} if result.question is None else {"question": result.question}
    if result.by_word:
        said |= {"caption": result.caption, "words": _as_json(result.words)}
    else:
        said["answers"] = _as_json(result.answers)
    if result.attention is not None:
        looks, grid = _as_json(result.attention.looks), _grid_as_json(result.attention.grid)
        said["attention"] = {"looks": looks, "grid": grid}
    if result.likeness is not None:
        said["likeness"] = result.likeness.to_json()
    return {
        "format": FORMAT,
        "photo": result.photo,
        "model": result.model,
        "layer": result.layer,
        "method": result.method,
        "target": result.target,
        **said,
        "unknown": list(result.unknown),
        "grid": _grid_as_json(result.grid),
        "placement": asdict(result.placement),
        "details": result.details,
    }


def save(result: Result, directory: Path) -> None:
    """Write ``explanation.json`` and ``maps.npz`` (``maps``, ``image``, and ``attention`` where
    there is one), both or neither."""
    with folder_written(directory) as draft:
        write(result, draft)


def write(result: Result, draft: Path) -> None:
    """As :func:`save`, to a folder that is a draft itself (:mod:`vlcam.utils.files.atomic`)."""
    _write_arrays(result, draft / "maps.npz")
    # What UTF-8 cannot hold (bytes in a photo's name) is escaped as JSON does it.
    text = json.dumps(to_json(result), indent=1, ensure_ascii=False, allow_nan=False)
    file = draft / "explanation.json"
    file.write_text(f"{text}\n", "utf-8", errors="backslashreplace")


def _write_arrays(result: Result, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        arrays = {"maps": result.maps.cpu().numpy(), "image": result.image}
        if result.attention is not None:
            arrays["attention"] = result.attention.maps.cpu().numpy()
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def read(directory: Path) -> dict[str, Any]:
    """The fields of a result from the files that :func:`save` wrote, in this format or an earlier
    one (no pickle is ever read).

    Raises:
        ValueError: a file is missing, damaged or of another format; it is named.
    """
    for folder in (directory.parent, directory):
        recover(folder)
    path = directory / "explanation.json"
    try:
        data = json.loads(read_bytes(path))
        if data.get("format") not in range(1, FORMAT + 1):
            raise ValueError(f"format {described(data.get('format'))}, expected 1 to {FORMAT}")
        values = _values(data)
        path = directory / "maps.npz"
        arrays = read_arrays(path, ("maps", "image", "attention"))
        _check_arrays(arrays, values)
    except Exception as error:  # whatever json, zipfile, zlib and numpy raise at damage
        reason = error.strerror if isinstance(error, OSError) else None
        reason = " ".join((reason or str(error) or type(error).__name__).split())[:_LONGEST]
        raise ValueError(f"{path}: not a saved explanation ({reason})") from error
    if values["attention"]:
        looks, grid = values["attention"]
        values["attention"] = AttentionMaps(looks, torch.from_numpy(arrays["attention"]), grid)
    maps = torch.from_numpy(arrays["maps"])
    return values | {"image": arrays["image"], "maps": maps}


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
    likeness = data.get("likeness")
    values["likeness"] = None if likeness is None else Likeness.from_json(likeness)
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


def _as_json(items: Sequence[Word | Answer | AttentionMap]) -> list[dict[str, Any]]:
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
    looks = tuple(_item(AttentionMap, placement.photo_size, item) for item in data["looks"])
    return looks, _grid(data["grid"])


def _ascending(centres: Any) -> tuple[float, ...]:
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in centres)
    if not numbers or sorted(centres) != list(centres):
        raise ValueError("centres of cells that do not ascend")
    return tuple(centres)


def _box(edges: Any) -> tuple[Any, ...]:
    if len(edges) != 4 or not all(type(v) in (int, float) and math.isfinite(v) for v in edges):
        raise ValueError(f"a box is {described(edges)}")
    return tuple(edges)


def _pair(name: str, pair: Any) -> tuple[Any, ...]:
    """A size (whole numbers), a scale or stride (positive), an offset or shift (any)."""
    kinds = (int,) if name.endswith("size") else (int, float)
    least = -math.inf if name in ("offset", "shift") else 0
    if len(pair) != 2 or not all(type(v) in kinds and least < v < math.inf for v in pair):
        raise ValueError(f"{name} is {described(pair)}")
    return tuple(pair)


def _item(kind: type, photo_size: tuple[int, int], data: Any) -> Any:
    """A word, an answer or a map of the model's own attention from its JSON."""
    values = [data[name] for name in _NUMBERS[kind] if name in data]
    if set(data) != {"text", *_NUMBERS[kind], "peak", "degenerate"}:
        raise ValueError(f"{_NAMES[kind]} with {', '.join(map(described, sorted(data)))}")
    text = data["text"]
    numbers = all(isinstance(value, int | float) for value in values)
    if not (isinstance(text, str) and numbers and isinstance(data["degenerate"], bool)):
        raise ValueError(f"{described(text)}: not a text, numbers and true or false")
    x, y = data["peak"]
    inside = type(x) is type(y) is int and 0 <= x < photo_size[1] and 0 <= y < photo_size[0]
    if not inside:
        peak = described(data["peak"])
        raise ValueError(f"{described(text)}: its peak {peak} is no pixel of the photo")
    return kind(text, *values, (x, y), data["degenerate"])


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
