"""tbmoon's basic_vqa: a narrow VGG and a random language half in its own layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vlcam
from tests.samples.vqa.basic_vqa import (
    ANSWERS,
    CONVOLUTIONS,
    HIDDEN,
    LAYERS,
    WIDE,
    WORDS,
    weights,
    write_checkpoint,
)
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import seam_gradients
from vlcam.attribution.targets import unit
from vqa.answering.cnn_answerer import CnnAnswerer
from vqa.models.basic_vqa import BasicVqa, load, recognises


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "model")


def cnn_by_hand(state: dict[str, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The last rectified maps and the feature."""
    x = pixels.double()
    for number, following in zip(CONVOLUTIONS, [*CONVOLUTIONS[1:], 17], strict=True):
        weight, bias = (
            state[f"img_encoder.model.features.{number}.{kind}"].double()
            for kind in ("weight", "bias")
        )
        maps = torch.conv2d(x, weight, bias, padding=1).clamp(min=0)
        x = torch.max_pool2d(maps, 2) if following - number == 3 else maps
    x = x.flatten(1)
    for number in (0, 3):
        weight, bias = (
            state[f"img_encoder.model.classifier.{number}.{kind}"].double()
            for kind in ("weight", "bias")
        )
        x = (x @ weight.T + bias).clamp(min=0)
    return maps, x


def answers_by_hand(state: dict[str, Tensor], feature: np.ndarray, tokens: list[int]) -> np.ndarray:
    """Logits of one image and question, one number after the other."""
    w = {name: value.double().numpy() for name, value in state.items()}

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return w[f"{name}.weight"] @ x + w[f"{name}.bias"]

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    h, c = np.zeros((2, LAYERS, HIDDEN))
    for token in tokens:
        x = np.tanh(w["qst_encoder.word2vec.weight"][token])
        for layer in range(LAYERS):
            name = "qst_encoder.lstm"
            gates = w[f"{name}.weight_ih_l{layer}"] @ x + w[f"{name}.bias_ih_l{layer}"]
            gates += w[f"{name}.weight_hh_l{layer}"] @ h[layer] + w[f"{name}.bias_hh_l{layer}"]
            write, forget, new, show = np.split(gates, 4)
            c[layer] = sigmoid(forget) * c[layer] + sigmoid(write) * np.tanh(new)
            x = h[layer] = sigmoid(show) * np.tanh(c[layer])
    parts = [part for layer in range(LAYERS) for part in (h[layer], c[layer])]
    question = linear("qst_encoder.fc", np.tanh(np.concatenate(parts)))
    image = linear("img_encoder.fc", feature)
    both = np.tanh(image / np.linalg.norm(image) * question)
    return linear("fc2", np.tanh(linear("fc1", both)))


def test_it_is_the_originals_arithmetic(checkpoint: Path) -> None:
    model = load(checkpoint)
    assert model.layer == "features.15" and model.answers == tuple(ANSWERS)
    question = model.understand("Where's  the DOG-house?")
    assert question.unknown == ("-", "house")
    tokens = [10, 2, 7, 8, 4, 1, 1, 3] + [0] * 22
    assert question.prompt == tuple(tokens)
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    maps, feature = cnn_by_hand(weights(), pixels)
    features = encode(model, pixels)
    torch.testing.assert_close(features.maps, maps.float(), rtol=1e-5, atol=1e-5)
    assert model.grid((224, 224)).size == (14, 14) and model.grid((224, 224)).offset == (7.5, 7.5)
    with torch.no_grad():
        logits = model.decode(features, [question.prompt])[0].numpy()
    np.testing.assert_allclose(
        logits, answers_by_hand(weights(), feature[0].numpy(), tokens), atol=1e-5
    )


def test_the_gradient_is_true_unless_the_norm_is_to_be_constant(checkpoint: Path) -> None:
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1)).double()
    gradients = []
    for constant in (False, True):
        model = load(checkpoint, constant_norm=constant)
        model.module.double()
        reading = model.read(model.understand("what is red"), ["no"])
        features = encode(model, pixels)
        (chunk,) = seam_gradients(model, features, [unit(reading, reading.units[0], "logit")])
        gradients.append(chunk.gradients[0])
        # Not where the maps are 0: which of a pooling's cells is the largest must not change.
        random = torch.Generator().manual_seed(2)
        step = 1e-6 * torch.randn(features.maps.shape, generator=random) * (features.maps > 0)
        with torch.no_grad():
            ahead, behind = (
                model.decode(vlcam.FeatureMaps(features.maps + sign * step), [reading.prompt])[0, 2]
                for sign in (1, -1)
            )
        slope = float((chunk.gradients[0] * step[0]).sum() / float(ahead - behind)) * 2
        assert (abs(slope - 1) < 1e-4) == (not constant)
    assert not torch.allclose(*gradients)


def test_photos_are_shrunk_as_the_original_shrinks_its_copies(checkpoint: Path) -> None:
    picture = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 20).convert("RGB")
    pixels, placement = load(checkpoint).prepare(picture)
    assert placement.photo_size == (200, 300)
    shrunk = np.asarray(picture.resize((224, 224), Image.Resampling.LANCZOS)) / 255
    expected = (shrunk - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(pixels.numpy(), expected.transpose(2, 0, 1), atol=1e-5)


def test_it_is_found_by_what_it_holds(checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "model-epoch-30.ckpt"
    for path in (checkpoint, file):
        assert recognises(path) and isinstance(vlcam.load(path), CnnAnswerer)
    assert recognises(file.rename(checkpoint / "renamed.bin"))
    old = tmp_path / "old"
    write_checkpoint(old)
    torch.save(
        {"state_dict": weights()},
        old / "model-epoch-30.ckpt",
        _use_new_zipfile_serialization=False,
    )
    assert recognises(old) and isinstance(vlcam.load(old).module, BasicVqa)
    (old / "model-epoch-30.ckpt").write_bytes(b"PK\x03\x04 and nothing")
    (old / "more.pth").write_bytes(b"")
    assert not recognises(old) and not recognises(old / "none") and not recognises(old / "more.pth")


def test_vocabularies_of_other_names(checkpoint: Path) -> None:
    (checkpoint / "vocab_questions.txt").rename(checkpoint / "words.txt")
    (checkpoint / "vocab_answers.txt").rename(checkpoint / "said.txt")
    (checkpoint / "notes.txt").write_text("trained on a Tuesday\n")
    (checkpoint / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert load(checkpoint).answers == tuple(ANSWERS)


def test_saved_and_read_again_it_is_the_same(checkpoint: Path, tmp_path: Path) -> None:
    model = load(checkpoint)
    model.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/config.json").read_text())["architecture"] == "basic-vqa"
    again = vlcam.load(tmp_path / "saved", "features.7")
    assert isinstance(again, CnnAnswerer) and again.layer == "features.7"
    assert again.module.config == model.module.config and not again.module.training
    same = vlcam.load(tmp_path / "saved")
    pixels = torch.randn(1, 3, 224, 224)
    prompt = model.understand("what is the dog").prompt
    scores = [m.decode(encode(m, pixels), [prompt]) for m in (model, same, again)]
    assert torch.equal(*scores[:2])
    torch.testing.assert_close(scores[0], scores[2])  # cut elsewhere: in other last bits


def test_layers_in_parallel_are_understood(tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in weights(1).items()}
    assert (
        load(write_checkpoint(tmp_path / "one", state)).module.qst_encoder["lstm"].num_layers == 1
    )


@pytest.mark.parametrize("question", [" ", "word " * 31])
def test_questions_it_cannot_read(checkpoint: Path, question: str) -> None:
    with pytest.raises(ValueError, match=r"has no word|31 words; model reads at most 30"):
        load(checkpoint).understand(question)


def _with(change: dict[str, Tensor | None]) -> Any:
    def spoil(folder: Path) -> None:
        state = {k: v for k, v in (weights() | change).items() if v is not None}
        torch.save({"state_dict": state}, folder / "model-epoch-30.ckpt")

    return spoil


def _cut(folder: Path) -> None:
    file = folder / "model-epoch-30.ckpt"
    file.write_bytes(file.read_bytes()[:-3000])


def _write(folder: Path, name: str, texts: list[str]) -> None:
    (folder / f"vocab_{name}.txt").write_text("\n".join(texts))


class _Hostile:
    qst_encoder = "qst_encoder.word2vec.weight img_encoder.fc.weight"

    def __reduce__(self) -> Any:
        return exec, (f"raise SystemExit('{self.qst_encoder}')",)


VGG = "img_encoder.model"


@pytest.mark.parametrize(
    ("said", "spoil"),
    [
        ("missing fc1.bias", _with({"fc1.bias": None})),
        ("unexpected extra, fc3.bias", _with({"extra": torch.ones(1), "fc3.bias": torch.ones(1)})),
        ("no matrix fc2.weight", _with({"fc2.weight": None})),
        ("fc1.bias has shape", _with({"fc1.bias": torch.ones(3)})),
        ("fc1.bias holds numbers", _with({"fc1.bias": torch.full((WIDE,), torch.nan)})),
        ("no convolution features.0", _with({f"{VGG}.features.0.weight": None})),
        ("are not 2 or 3 apart", _with({f"{VGG}.features.3.weight": None})),
        ("no matrix classifier.3", _with({f"{VGG}.classifier.3.weight": None})),
        ("takes 9 numbers", _with({f"{VGG}.classifier.0.weight": torch.ones(8, 9)})),
        ("damaged", _cut),
        ("the vocabulary 10", lambda f: _write(f, "questions", WORDS[:10])),
        ("4 answers, the vocabulary 5", lambda f: _write(f, "answers", ["a", "", "b", "c", "d"])),
        ("questions has no <unk>", lambda f: _write(f, "questions", ["<pad>", "a"])),
        ("not UTF-8", lambda f: (f / "vocab_answers.txt").write_bytes(b"\xff")),
        ("vocabulary vocab_answers.txt, found none", lambda f: (f / "vocab_answers.txt").unlink()),
        ("vocab_questions.txt, found none", lambda f: (f / "vocab_questions.txt").unlink()),
        ("found model-epoch-30.ckpt, z.ckpt", lambda f: torch.save(weights(), f / "z.ckpt")),
        ("found none", lambda f: (f / "model-epoch-30.ckpt").unlink()),
        ("calls exec|asks for", lambda f: torch.save(_Hostile(), f / "model-best.ckpt")),
    ],
)  # fmt: skip
def test_what_does_not_fit(checkpoint: Path, said: str, spoil: Any) -> None:
    spoil(checkpoint)
    with pytest.raises(ValueError, match=said) as error:
        load(checkpoint)
    assert "\n" not in str(error.value) and str(checkpoint) in str(error.value)


def test_a_configuration_that_is_none(checkpoint: Path, tmp_path: Path) -> None:
    load(checkpoint).save(tmp_path / "saved")
    file = tmp_path / "saved/config.json"
    good = json.loads(file.read_text())
    for change, said in (
        ({"max_words": 0}, "max_words is 0"),
        ({"answers": [1]}, "answers: expected a list of texts"),
        ({"vocabulary": ["a"]}, "has no <pad>"),
        ({"more": 1}, "not a VQA model's configuration"),
    ):
        file.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=said) as error:
            load(tmp_path / "saved")
        assert str(file) in str(error.value)


def test_a_layer_it_has_not(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"layer 'features.99' of this CNN: unknown; did you mean"):
        load(checkpoint, "features.99")


def test_pickles_are_not_run(tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    file.write_bytes(pickle.dumps(_Hostile()))
    assert recognises(file)  # by its text
    with pytest.raises(ValueError, match=r"model\.ckpt: "):
        load(file)
