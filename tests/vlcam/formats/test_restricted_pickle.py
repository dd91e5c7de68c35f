"""Pickles of plain data are read, whatever wrote them; anything else is refused and never run."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.samples.foreign import module_of
from vlcam.formats.restricted_pickle import read_pickle


def written(folder: Path, data: bytes) -> Path:
    path = folder / "infos_x.pkl"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_is_read(tmp_path: Path, protocol: int) -> None:
    data = {
        "opt": argparse.Namespace(caption_model="fc", rate=np.float64(0.5), n=np.int64(3)),
        "vocab": collections.OrderedDict({"1": "café"}),
        "counts": collections.defaultdict(int, {"a": 2}),
        "array": np.array([[1, 2, 3], [4, 5, 6]], order="F"),
        "big endian": np.array([1.5, 2.5], dtype=">f8"),
        "flags": np.array([True, False]),
        "names": np.array(["ab", "c"]),
        "raw": b"\x00\xff",
        "changeable": bytearray(b"ab"),
        "latest": collections.deque([1, 2], maxlen=3),
        "numbers": collections.Counter("aab"),
        "empty": [np.zeros((0, 2)), frozenset({3}), {}, ()],
        "rest": [None, True, {1, 2}, (3, 4.5), 1j, 10**30],
    }
    read = read_pickle(written(tmp_path, pickle.dumps(data, protocol)))
    assert vars(read["opt"]) == {"caption_model": "fc", "rate": 0.5, "n": 3}
    assert read["vocab"] == {"1": "café"} and read["counts"] == {"a": 2}
    assert read["array"] == [[1, 2, 3], [4, 5, 6]]
    assert read["big endian"] == [1.5, 2.5] and read["flags"] == [True, False]
    assert read["names"] == ["ab", "c"] and read["raw"] == b"\x00\xff"
    assert read["changeable"] == b"ab" and read["latest"] == [1, 2]
    assert read["numbers"] == {"a": 2, "b": 1} and read["empty"] == [[], {3}, {}, ()]
    assert read["rest"] == data["rest"]


def test_python_2_wrote_objects_and_strings_differently(tmp_path: Path) -> None:
    data = (
        b"(dp0\nS'opt'\np1\nccopy_reg\n_reconstructor\np2\n(cargparse\nNamespace\np3\n"
        b"c__builtin__\nobject\np4\nNtp5\nRp6\n(dp7\nS'caption_model'\np8\nS'fc'\np9\nsb"
        b"sS'word'\np10\nS'caf\\xe9'\np11\ns."
    )
    read = read_pickle(written(tmp_path, data))
    assert read["opt"].caption_model == "fc" and read["word"] == "café"


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, getattr, __import__, exec])
def test_nothing_is_run(tmp_path: Path, function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, pickle.dumps({"opt": _Runs(function, "mkdir ran")}))
    with pytest.raises(ValueError, match="only plain data is read") as error:
        read_pickle(path)
    assert function.__name__ in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.glob("*ran*"))


def test_attributes_set_on_a_type_stay_in_the_file(tmp_path: Path) -> None:
    data = b"cargparse\nNamespace\n(N}(S'evil'\nI1\nutb."
    with pytest.raises(ValueError, match=r"it sets the state of argparse\.Namespace; only plain"):
        read_pickle(written(tmp_path, data))
    assert not hasattr(argparse.Namespace, "evil")
    again = read_pickle(written(tmp_path, pickle.dumps(argparse.Namespace(a=1))))
    assert not hasattr(again, "evil")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a pickle",
        pickle.dumps({"opt": 1, "words": ["a", "b"]})[:-7],
        b"cargparse\nNamespace\n.trailing"[:20],
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"ccopy_reg\n_reconstructor\n(c__builtin__\ndict\nc__builtin__\nobject\nNtR.",
    ],
)
def test_damage_is_named_in_one_line(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"infos_x\.pkl: ") as error:
        read_pickle(written(tmp_path, data))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("module", ["build_vocab", "__main__"])
def test_objects_of_named_classes_are_their_attributes(
    tmp_path: Path, protocol: int, module: str
) -> None:
    class Vocabulary:
        def __init__(self) -> None:
            self.word2idx = {"<pad>": 0, "dog": 1}

    with module_of(module, Vocabulary):
        path = written(tmp_path, pickle.dumps({"v": Vocabulary()}, protocol))
    read = read_pickle(path, classes=("Vocabulary",))["v"]
    assert isinstance(read, argparse.Namespace)
    assert vars(read) == {"word2idx": {"<pad>": 0, "dog": 1}}
    with pytest.raises(ValueError, match=rf"it asks for {module}\.Vocabulary; only plain"):
        read_pickle(path)
