"""Explanations on disk: files that hold all of one, without a pickle."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vlcam
from tests.samples import by_hand
from tests.samples.tiny import TinyCaptioner, photo
from vlcam.explanation.explanation import Explanation


def check_equal(one: Explanation, other: Explanation) -> None:
    """Every field, with its types, bit for bit."""
    for field in fields(Explanation):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, torch.Tensor):
            a, b = a.numpy(), b.numpy()
        if isinstance(a, np.ndarray):
            assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()), field.name
        else:
            assert repr(a) == repr(b), field.name


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam-no-relu", "guided-grad-cam"])
@pytest.mark.parametrize("target", ["word", "caption"])
def test_what_is_saved_is_loaded(tmp_path: Path, method: str, target: Any) -> None:
    found = vlcam.explain(
        TinyCaptioner(), photo(40, 24), "a red axolotl sees grass", method=method, target=target
    )
    assert found.unknown == ("axolotl",)
    found.save(tmp_path / "new" / "folder")
    check_equal(Explanation.load(tmp_path / "new" / "folder"), found)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "explanation.json",
        "maps.npz",
    ]


def test_values_that_are_not_finite_are_loaded_as_they_were(tmp_path: Path) -> None:
    found = by_hand.explanation(["a", "b", "c"])
    found.maps[0, 0, 0] = float("nan")
    found.maps[1] = -0.0
    found.maps[2, 1, 1] = -float("inf")
    found.save(tmp_path)
    check_equal(Explanation.load(tmp_path), found)


def test_an_explanation_without_words_is_kept(tmp_path: Path) -> None:
    found = by_hand.explanation([], unknown=["axolotl"], caption="axolotl")
    found.save(str(tmp_path))
    check_equal(Explanation.load(str(tmp_path)), found)


@pytest.mark.parametrize(
    "text", ['"quoted" \\ back', "line\nbreak", "🐕 كلب", "caf\udce9.jpg", "\x00\x1f", "</script>"]
)
def test_any_text_is_kept(tmp_path: Path, text: str) -> None:
    """A surrogate stands for a byte of a file's name that is not UTF-8."""
    found = by_hand.explanation([text, "dog"], unknown=[text], photo=text)
    found.save(tmp_path)
    check_equal(Explanation.load(tmp_path), found)
    (tmp_path / "explanation.json").read_text("utf-8")


def test_the_json_is_what_the_documentation_says(tmp_path: Path) -> None:
    by_hand.explanation(["a", "dog"], flat=[1]).save(tmp_path)
    data = json.loads((tmp_path / "explanation.json").read_text("utf-8"))
    assert {"photo", "model", "layer", "method", "target", "caption", "words"} <= set(data)
    a, dog = data["words"]
    assert set(a) == {"text", "log_probability", "probability", "peak", "degenerate"}
    assert a["text"] == "a" and not a["degenerate"] and dog["degenerate"]
    assert a["probability"] == pytest.approx(np.exp(a["log_probability"]))


def test_the_arrays_need_no_pickle(tmp_path: Path) -> None:
    found = by_hand.explanation(["a", "red", "dog"], signed=True)
    found.save(tmp_path)
    with np.load(tmp_path / "maps.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"maps", "image"}
        assert np.array_equal(arrays["maps"], found.maps.numpy())
    for file in tmp_path.iterdir():
        assert b"numpy.core" not in file.read_bytes() and b"numpy._core" not in file.read_bytes()


def test_maps_at_photo_size_are_made_when_asked_for(tmp_path: Path) -> None:
    """A large photo's took half a gigabyte of file."""
    found = by_hand.explanation(["a", "red", "dog"], size=(1000, 1200))
    found.save(tmp_path)
    photo_and_raw_maps = found.image.nbytes + found.maps.nbytes
    assert (tmp_path / "maps.npz").stat().st_size < 1.1 * photo_and_raw_maps
    again = Explanation.load(tmp_path)
    for index, drawn in enumerate(again.photo_maps()):
        assert drawn.shape == (1000, 1200) and np.array_equal(drawn, found.photo_map(index))


def test_format_1_is_read_as_it_was(tmp_path: Path) -> None:
    """It held the maps at photo size, too."""
    found = by_hand.explanation(["a", "dog"], size=(12, 16))
    found.save(tmp_path)
    path = tmp_path / "explanation.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"format": 1}), "utf-8")
    replace_array(tmp_path, photo_maps=np.stack(list(found.photo_maps())))
    check_equal(Explanation.load(tmp_path), found)


def refused(folder: Path, name: str) -> str:
    """The complaint about a folder: one line, which names the file."""
    with pytest.raises(ValueError) as error:
        Explanation.load(folder)
    line = str(error.value)
    assert line.startswith(f"{folder / name}: not a saved explanation (") and line.endswith(")")
    assert "\n" not in line and not line.endswith("()") and "unsafely" not in line
    return line


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    by_hand.explanation(["a", "dog"], size=(12, 16)).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["explanation.json", "maps.npz"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    assert "No such file" in refused(saved, name)
    (saved / name).mkdir()
    assert "s a directory" in refused(saved, name)


@pytest.mark.parametrize("name", ["explanation.json", "maps.npz"])
def test_a_truncated_file_is_named(saved: Path, name: str) -> None:
    whole = (saved / name).read_bytes()
    for length in [0, 1, 2, 3, 4, *range(5, len(whole) - 2, max(1, len(whole) // 40))]:
        (saved / name).write_bytes(whole[:length])
        refused(saved, name)


def test_damaged_arrays_are_refused_or_read_right(saved: Path) -> None:
    """Damage where nothing is read (the names and times of files) does no harm."""
    path, before = saved / "maps.npz", Explanation.load(saved)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    count = 0
    for place in generator.choice(len(whole), 200, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            after = Explanation.load(saved)
        except ValueError:
            refused(saved, "maps.npz")
            count += 1
        else:
            check_equal(after, before)
    assert count > 100


Edit = Callable[[dict[str, Any]], Any]


def without(key: str) -> Edit:
    return lambda data: {k: v for k, v in data.items() if k != key}


def changed(*path: str | int, to: Any) -> Edit:
    def edit(data: dict[str, Any]) -> Any:
        inner: Any = data
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        return data

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        *map(without, ["format", "photo", "caption", "words", "unknown", "grid", "details"]),
        lambda data: [data],
        lambda data: None,
        changed("format", to=3),
        changed("format", to=0),
        changed("format", to="2"),
        changed("format", to=[2]),
        changed("caption", to=None),
        changed("unknown", to="axolotl"),
        changed("unknown", to=[1]),
        changed("details", to="text"),
        changed("words", to=[]),
        changed("words", to={"a": 1}),
        changed("words", 0, to="a"),
        changed("words", 0, "text", to=3),
        changed("words", 0, "probability", to="0.5"),
        changed("words", 0, "probability", to='"><script>'),
        changed("words", 0, "degenerate", to="no"),
        changed("words", 0, "peak", to=[1]),
        changed("words", 0, "peak", to=[16, 0]),
        changed("words", 0, "peak", to=[0, -1]),
        changed("words", 0, "peak", to=[0.5, 1]),
        changed("words", 0, "more", to=1),
        changed("grid", "size", to=[6, 9]),
        changed("grid", "size", to=[6.0, 8]),
        changed("grid", "stride", to=[0, 10]),
        changed("grid", "offset", to=[0, float("nan")]),
        changed("grid", "offset", to=["0", 0]),
        changed("grid", "more", to=[1, 1]),
        changed("placement", "photo_size", to=[12, 17]),
        changed("placement", "scale", to=[1, 1, 1]),
        changed("placement", "scale", to=5),
    ],
)
def test_edited_json_is_refused(saved: Path, edit: Edit) -> None:
    path = saved / "explanation.json"
    data = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(data), "utf-8")
    Explanation.load(saved)
    path.write_text(json.dumps(edit(data)), "utf-8")
    with pytest.raises(ValueError) as error:
        Explanation.load(saved)
    # What the two files disagree about is found when the second is read.
    name = "maps.npz" if "explanation.json, which says" in str(error.value) else path.name
    refused(saved, name)


def test_json_that_is_nested_too_deeply_is_refused(saved: Path) -> None:
    (saved / "explanation.json").write_text("[" * 100_000, "utf-8")
    refused(saved, "explanation.json")


def replace_array(folder: Path, **arrays: Any) -> None:
    with np.load(folder / "maps.npz", allow_pickle=False) as before:
        kept = {name: before[name] for name in before.files}
    np.savez(folder / "maps.npz", **(kept | arrays))


@pytest.mark.parametrize(
    "arrays",
    [
        {"maps": np.zeros((2, 6, 9), np.float32)},
        {"maps": np.zeros((2, 6, 8), np.float64)},
        {"maps": np.zeros((2, 6, 8), ">f4")},
        {"maps": np.zeros((2, 6, 8), "U1")},
        {"maps": np.float32(1)},
        {"image": np.zeros((12, 16), np.uint8)},
        {"image": np.zeros((12, 16, 4), np.uint8)},
        {"image": np.zeros((12, 16, 3), np.float32)},
    ],
)
def test_other_arrays_are_refused(saved: Path, arrays: dict[str, Any]) -> None:
    replace_array(saved, **arrays)
    assert "does not fit" in refused(saved, "maps.npz")


def test_a_missing_array_is_refused(saved: Path) -> None:
    np.savez(saved / "maps.npz", maps=np.zeros((2, 6, 8), np.float32))
    assert "image" in refused(saved, "maps.npz")


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def as_member(name: str) -> Callable[[Path, Runs], None]:
    def write(file: Path, evil: Runs) -> None:
        array = np.empty((2, 6, 8), object)
        array[:] = None
        array[0, 0, 0] = evil
        replace_array(file.parent, **{name: array})

    return write


def as_pickle(file: Path, evil: Runs) -> None:
    file.write_bytes(pickle.dumps(evil))


def as_array_file(file: Path, evil: Runs) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([evil], object), allow_pickle=True)
    file.write_bytes(buffer.getvalue())


def as_pickle_in_zip(file: Path, evil: Runs) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("maps", "maps.npy", "image", "image.npy"):
            archive.writestr(name, pickle.dumps(evil))


@pytest.mark.parametrize(
    "write", [as_member("maps"), as_member("image"), as_pickle, as_array_file, as_pickle_in_zip]
)
def test_a_pickle_is_refused_and_not_run(saved: Path, write: Callable[[Path, Runs], None]) -> None:
    write(saved / "maps.npz", Runs(saved / "ran"))
    refused(saved, "maps.npz")
    assert not (saved / "ran").exists()


def test_what_is_no_json_is_not_written(tmp_path: Path) -> None:
    result = replace(by_hand.explanation(["a"]), details={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        result.save(tmp_path / "a")
    assert not (tmp_path / "a").exists()
