"""im2txt's files by any of their names, saved again, and damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import vlcam
from captioning.models.im2txt import files as im2txt
from captioning.models.im2txt.model import Im2txt
from tests.samples.captioning.im2txt import (
    CHANNELS,
    EMBEDDING,
    NAMES,
    WORDS,
    loaded,
    variables,
    write_words,
)
from tests.samples.tensorflow_files import MAGIC, save
from tests.samples.tiny import photo


def test_saved_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    original = vlcam.load(checkpoint, "Mixed_6e")
    original.save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architecture"] == "im2txt" and config["words"] == WORDS
    for path in (tmp_path / "saved", tmp_path / "saved" / "model.safetensors"):
        again = vlcam.load(path, "Mixed_6e")
        assert isinstance(again, Im2txt)
        ours, theirs = original.module.state_dict(), again.module.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        a, b = (vlcam.explain(m, photo(90, 70), "a red dog") for m in (original, again))
        assert torch.equal(a.maps, b.maps) and a.grid == b.grid and a.placement == b.placement


def test_it_goes_by_any_of_its_names(own: Path) -> None:
    save(own / "other.ckpt-1", variables(seed=1))
    (own / "checkpoint").write_text('model_checkpoint_path: "/tmp/train/other.ckpt-1"\n')
    for path, name in (
        ("", "other.ckpt-1"),
        ("checkpoint", "other.ckpt-1"),
        ("model.ckpt-12345", "model.ckpt-12345"),
        ("model.ckpt-12345.index", "model.ckpt-12345"),
        ("model.ckpt-12345.data-00000-of-00001", "model.ckpt-12345"),
    ):
        assert vlcam.load(own / path).name == name
    (own / "checkpoint").unlink()
    with pytest.raises(ValueError, match=r"several checkpoints \(model.ckpt-12345, other.ckpt-1\)"):
        vlcam.load(own)


def test_half_precision_and_what_the_training_left_are_no_hindrance(own: Path) -> None:
    made = variables()
    half = {name: v.astype(np.float16) if v.dtype == np.float32 else v for name, v in made.items()}
    kernel = NAMES["1.2"][0]
    half |= {
        "OptimizeLoss/learning_rate": np.array(2.0, np.float32),
        f"OptimizeLoss/{kernel}/Momentum": np.zeros_like(made[kernel]),
        f"{kernel}/Adam_1": np.zeros_like(made[kernel]),
        "beta1_power": np.array(0.9, np.float32),
        "InceptionV3/Logits/Conv2d_1c_1x1/weights": np.zeros((1, 1, CHANNELS, 3), np.float32),
        "InceptionV3/AuxLogits/Conv2d_2b_1x1/biases": np.zeros(3, np.float32),
    }
    exact = vlcam.load(own).module.state_dict()
    save(own / "model.ckpt-12345", half)
    found = vlcam.load(own).module.state_dict()
    assert found.keys() == exact.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, exact[key], rtol=1e-3, atol=1e-3)


def test_a_vocabulary_is_known_by_its_lines(own: Path) -> None:
    (own / "word_counts.txt").unlink()
    (own / "readme.txt").write_text("Trained for a week.\n")
    with pytest.raises(ValueError, match=r"beside model\.ckpt-12345, word_counts\.txt.*found none"):
        vlcam.load(own)
    write_words(own, ["<UNK>", *WORDS], "words.txt")
    model = loaded(own)
    assert model.read("a zebra").prompt == (1, 0)
    assert [(w.text, w.unknown) for w in model.words("<UNK> zebra")] == [
        ("<UNK>", False),
        ("zebra", True),
    ]
    write_words(own, WORDS, "more.txt")
    with pytest.raises(ValueError, match=r"found more\.txt, words\.txt"):
        vlcam.load(own)
    write_words(own, [repr(word.encode()) for word in [*WORDS, "café", "'s"]])
    model = loaded(own)
    assert [word.tokens for word in model.words("the café's dog")] == [(10,), (8,), (9,), (4,)]


def test_a_full_vocabulary_has_no_token_for_other_words(own: Path) -> None:
    write_words(own, [*WORDS, "cat", "the", "mr."])
    (word,) = loaded(own).words("zebra")
    assert word.unknown and word.tokens == ()
    reading = loaded(own).read("Mr. dog. a cat")
    assert [unit.text for unit in reading.units] == ["mr.", "dog", ".", "a", "cat"]
    write_words(own, [*WORDS, "cat", "the", "mr.", "one"])
    with pytest.raises(ValueError, match=r"12 words, but the model has 11 tokens"):
        vlcam.load(own)


def changed(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        made = variables()
        change(made)
        save(folder / "model.ckpt-12345", made)

    return apply


def cut(file: str, keep: float) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = (folder / file).read_bytes()
        (folder / file).write_bytes(data[: int(keep * len(data))])

    return apply


INDEX, DATA = "model.ckpt-12345.index", "model.ckpt-12345.data-00000-of-00001"
CONV = "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights"
MEAN = "InceptionV3/Mixed_6b/Branch_0/Conv2d_0a_1x1/BatchNorm/moving_mean"
PROBLEMS: dict[str, Callable[[Path], object]] = {
    f"{INDEX}: not a readable index of a checkpoint (its end is missing)": cut(INDEX, 0.5),
    f"{INDEX}: no such file": lambda f: (f / INDEX).unlink(),
    f"{DATA}: no such file": lambda f: (f / DATA).unlink(),
    "is cut short": cut(DATA, 0.5),
    "no convolution Mixed_5c/Branch_1/Conv_1_0c_5x5": changed(lambda v: v.pop(CONV)),
    "missing encoder.Mixed_6b.Branch_0.Conv2d_0a_1x1.bn.running_mean": changed(
        lambda v: v.pop(MEAN)
    ),
    "missing logits/biases": changed(lambda v: v.pop("logits/biases")),
    "missing lstm/basic_lstm_cell/kernel": changed(lambda v: v.pop(NAMES["1.2"][0])),
    "unexpected attention/a, attention/b": changed(
        lambda v: v.update({f"attention/{n}": np.zeros(2, np.float32) for n in "ab"})
    ),
    "has shape (3, 2, 5, 4), expected (3, 2, 5, 5)": changed(
        lambda v: v.update({CONV: v[CONV][:, :4].transpose(0, 1, 2, 3)})
    ),
    "image.weight has shape": changed(
        lambda v: v.update({"image_embedding/weights": np.zeros((7, EMBEDDING), np.float32)})
    ),
    "have shapes (11, 19) and (20,)": changed(
        lambda v: v.update({NAMES["1.2"][0]: v[NAMES["1.2"][0]][:, 1:]})
    ),
    "holds numbers that are not finite": changed(
        lambda v: v["logits/biases"].__setitem__(0, np.nan)
    ),
    "word_counts.txt: not lines of a word": lambda f: (f / "word_counts.txt").write_text("a\nb\n"),
    "word_counts.txt: <S> and </S> are not": lambda f: write_words(f, ["a", "<S>"]),
    "b'(1).real' is no word": lambda f: write_words(f, ["b'(1).real'x", *map(repr, [b"<S>"])]),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(own: Path, message: str) -> None:
    PROBLEMS[message](own)
    with pytest.raises(ValueError) as error:
        vlcam.load(own)
    assert message.replace("b'(1).real'", "b'(1).real'x") in str(error.value)
    assert str(own) in str(error.value) and "\n" not in str(error.value)


def test_damaged_files_of_ours_are_named(checkpoint: Path, tmp_path: Path) -> None:
    vlcam.load(checkpoint).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (
        ({"words": ["a"]}, "<S> is not among them"),
        ({"words": [1, 2]}, "expected a list of strings"),
        ({"words": [*WORDS, "b", "c", "d", "e"]}, "12 words"),
        ({"preprocess": {"interpolation": "best"}}, "interpolation"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message) as error:
            vlcam.load(tmp_path)
        assert "config.json" in str(error.value)


def test_a_checkpoint_of_version_1_is_to_be_converted(own: Path) -> None:
    for file in (INDEX, DATA):
        (own / file).unlink()
    names = b"InceptionV3/Conv2d_1a_3x3/weights ... image_embedding/weights"
    old = names + bytes(60) + MAGIC.to_bytes(8, "little")
    (own / "model.ckpt-12345").write_bytes(old)
    for path in (own, own / "model.ckpt-12345"):
        with pytest.raises(ValueError, match=r"model\.ckpt-12345: .*version 1.*convert"):
            vlcam.load(path)


def test_other_files_are_not_recognised(checkpoint: Path, tmp_path: Path) -> None:
    assert not im2txt.recognises(tmp_path)
    write_words(tmp_path)
    (tmp_path / "a.index").write_bytes(b"")
    (tmp_path / "b.index").write_bytes(b"\0" * 100)
    made = variables()
    save(tmp_path / "inception", {n: v for n, v in made.items() if n.startswith("InceptionV3")})
    save(tmp_path / "language", {n: v for n, v in made.items() if "Inception" not in n})
    assert not im2txt.recognises(tmp_path)
    for file in (*tmp_path.iterdir(), checkpoint / "word_counts.txt", tmp_path / "nothing"):
        assert not im2txt.recognises(file), file
    with pytest.raises(ValueError, match="unknown; did you mean Mixed_7"):
        vlcam.load(checkpoint, "Mixed_7d")
