"""Tokenizers that give up: in one line that names their file, and nothing else is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.samples.pretrained import byte_level, unigram, word_pieces
from vlcam.adapters.subwords import Subwords
from vlcam.formats.folders.tokenizer import load_tokenizer, tokenize

Said = dict[str, Any]


def split(pattern: str) -> Callable[[Said], object]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return lambda said: said.update(pre_tokenizer=step)


def replacing(pattern: dict[str, str], content: str, times: int = 1) -> Callable[[Said], object]:
    steps = times * [{"type": "Replace", "pattern": pattern, "content": content}]
    return lambda said: said.update(normalizer={"type": "Sequence", "normalizers": steps})


REFUSED: dict[str, Callable[[Said], object]] = {
    "retry-limit-in-match over": split(r"(a+a+)+$"),
    "retry-limit-in-match": replacing({"Regex": r"(a+a+)+$"}, "b"),
    "chunk size must be non-zero": lambda s: s.update(
        pre_tokenizer={"type": "FixedLength", "length": 0}
    ),
    "out of range": lambda s: s["model"].update(continuing_subword_prefix="####"),
    "times as long": replacing({"String": "a"}, "aa", 40),
    "times as long)": replacing({"Regex": ""}, "aaaa", 40),
    "at random (dropout 0.1)": lambda s: s["model"].update(dropout=0.1),
    "cannot be loaded": lambda s: s["model"].update(type="Nothing"),
    "cannot be loaded (": split("((("),
    "not JSON": lambda s: s.clear(),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_tokenizers_that_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], message: str
) -> None:
    byte_level().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    said = json.loads(path.read_text("utf-8"))
    REFUSED[message](said)
    path.write_text(json.dumps(said) if said else "{", "utf-8")
    capfd.readouterr()
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path)
    assert message.rstrip(")") in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_what_runs_away_on_some_texts_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    byte_level().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    said = json.loads(path.read_text("utf-8"))
    split(r"(x+x+)+y|z+")(said)
    path.write_text(json.dumps(said), "utf-8")
    words = Subwords(load_tokenizer(tmp_path))
    words.read("a dog")
    capfd.readouterr()
    with pytest.raises(ValueError, match=rf"{path}: cannot split a text \(Onig"):
        words.read("x" * 40)
    assert capfd.readouterr() == ("", "")
    words.read("a dog")


@pytest.mark.parametrize("make", [byte_level, unigram, word_pieces])
def test_lengths_in_the_file_change_nothing(tmp_path: Path, make: Callable[[], Any]) -> None:
    make().save_pretrained(tmp_path)
    expected = tokenize(load_tokenizer(tmp_path), "a dog on grass")["input_ids"]
    path = tmp_path / "tokenizer.json"
    said = json.loads(path.read_text("utf-8"))
    said["truncation"] = {
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    said["padding"] = {
        "strategy": {"Fixed": 10**7}, "direction": "Right", "pad_to_multiple_of": 10**7,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    path.write_text(json.dumps(said), "utf-8")
    assert tokenize(load_tokenizer(tmp_path), "a dog on grass")["input_ids"] == expected
