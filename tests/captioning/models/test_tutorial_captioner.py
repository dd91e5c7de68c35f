"""yunjey's captioner: tiny checkpoints in the published layout against slow plain loops."""

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
from captioning.language.vocabularies import MarkedWords, words_by_token
from captioning.models import tutorial_captioner
from captioning.models.tutorial_captioner import TutorialCaptioner
from tests.samples.captioning.tutorial_captioner import (
    FEATURE,
    HIDDEN,
    WORDS,
    write_checkpoint,
    write_vocabulary,
)
from tests.samples.foreign import slow_resnet
from tests.samples.tiny import photo
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.targets import Target, Term, units
from vlcam.geometry.grid import Grid

Weights = tuple[dict[str, Tensor], dict[str, Tensor]]


def parts(folder: Path) -> Weights:
    """The weights of encoder and decoder, float64."""
    files = (folder / "encoder-5-3000.ckpt", folder / "decoder-5-3000.ckpt")
    encoder, decoder = (torch.load(file, weights_only=True) for file in files)
    return (
        {name: value.double() for name, value in encoder.items()},
        {name: value.double() for name, value in decoder.items()},
    )


def trunk(weights: Weights) -> dict[str, Tensor]:
    encoder, _ = weights
    return {k.removeprefix("resnet."): v for k, v in encoder.items() if k.startswith("resnet.")}


def slow_image(weights: Weights, maps: Tensor) -> Tensor:
    """The image's embedding (E,) from the last maps (K, u, v)."""
    w, _ = weights
    y = w["linear.weight"] @ maps.mean((1, 2)) + w["linear.bias"]
    y = (y - w["bn.running_mean"]) / (w["bn.running_var"] + 1e-5).sqrt()
    return y * w["bn.weight"] + w["bn.bias"]


def slow_log_probabilities(weights: Weights, maps: Tensor, tokens: list[int]) -> Tensor:
    """Row k: of what comes behind the image and ``tokens[:k]``; one step after the other."""
    _, w = weights
    layers = sum(name.startswith("lstm.weight_ih") for name in w)
    h = [torch.zeros(HIDDEN, dtype=torch.float64) for _ in range(layers)]
    c = list(h)
    rows = []
    for x in [slow_image(weights, maps), *(w["embed.weight"][token] for token in tokens)]:
        for layer in range(layers):
            z = w[f"lstm.weight_ih_l{layer}"] @ x + w[f"lstm.bias_ih_l{layer}"]
            z = z + w[f"lstm.weight_hh_l{layer}"] @ h[layer] + w[f"lstm.bias_hh_l{layer}"]
            i, f, g, o = (z[k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
            c[layer] = c[layer] * f.sigmoid() + i.sigmoid() * g.tanh()
            h[layer] = o.sigmoid() * c[layer].tanh()
            x = h[layer]
        y = w["linear.weight"] @ x + w["linear.bias"]
        rows.append(y - y.exp().sum().log())
    return torch.stack(rows)


def slow_sample(weights: Weights, maps: Tensor) -> list[str]:
    """Twenty steps of the likeliest; what stands before the first <end>, without <start>."""
    tokens: list[int] = []
    for _ in range(20):
        tokens.append(int(slow_log_probabilities(weights, maps, tokens)[-1].argmax()))
    words = [WORDS[token] for token in tokens]
    words = words[: words.index("<end>")] if "<end>" in words else words
    return [word for word in words if word not in ("<start>", "<pad>")]


def loaded(path: Path, layer: str | None = None) -> TutorialCaptioner:
    model = vlcam.load(path, layer)
    assert isinstance(model, TutorialCaptioner)
    model.module.double()
    return model


def some_maps(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(1, FEATURE, 2, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("layers", [1, 2])
def test_log_probabilities_equal_slow_loops(tmp_path: Path, layers: int) -> None:
    """The image predicts <start>; so the first word is what comes behind both."""
    model = loaded(write_checkpoint(tmp_path / "x", layers=layers))
    weights = parts(tmp_path / "x")
    captions = [[4, 5, 6, 7, 9, 2], [8, 3, 5]]
    maps = torch.cat([some_maps(1), some_maps(2)])
    scores = model.decode(FeatureMaps(maps), [tuple(c) for c in captions])
    for row, tokens in enumerate(captions):
        slow = slow_log_probabilities(weights, maps[row], [1, *tokens])[1:]
        expected = torch.stack([slow[k, token] for k, token in enumerate(tokens)])
        torch.testing.assert_close(scores[row, : len(tokens)], expected, rtol=0, atol=1e-12)


def test_captions_equal_slow_sampling(tmp_path: Path) -> None:
    written = set()
    for seed in range(6):
        folder = write_checkpoint(tmp_path / f"{seed}", layers=1 + seed % 2, seed=seed)
        if seed:  # as trained ones do; of the first it is left to chance
            state = torch.load(folder / "decoder-5-3000.ckpt", weights_only=True)
            state["linear.bias"][2] += seed - 2
            torch.save(state, folder / "decoder-5-3000.ckpt")
        model = loaded(folder)
        words = [word.text for word in model.generate(FeatureMaps(some_maps(seed)))]
        assert words == slow_sample(parts(folder), some_maps(seed)[0])
        written.add(len(words))
    assert len(written) > 2 and max(written) >= 19


def test_wider_beams_find_likelier_captions(tmp_path: Path) -> None:
    found = []
    for seed in range(4):
        model = loaded(write_checkpoint(tmp_path / f"{seed}", seed=seed))
        features = FeatureMaps(some_maps(seed))

        def total(beam: int, model: Any = model, features: Any = features) -> float:
            tokens = [word.tokens[0] for word in model.generate(features, beam)]
            ended = (*tokens, 2)
            whole = Target("all", (Term(1.0, ended, tuple(range(len(ended)))),))
            return float(score(model, features, [whole]))

        found.append((total(1), total(len(WORDS) ** 2)))
        words = [word.text for word in model.generate(features, 3)]
        assert len(words) <= 19 and not {"<pad>", "<start>", "<end>"} & set(words)
    assert all(wide >= greedy - 1e-9 for greedy, wide in found)
    assert any(wide > greedy for greedy, wide in found)


@pytest.mark.parametrize(
    ("layer", "last"), [("resnet.7", 7), ("resnet.5", 5), ("resnet.5.0", 5), (None, 7)]
)
def test_maps_equal_one_word_at_a_time(tmp_path: Path, layer: str | None, last: int) -> None:
    folder = write_checkpoint(tmp_path / "x")
    model = loaded(folder, layer)
    assert model.layer == (layer or "resnet.7")
    pixels, _ = model.prepare(photo(90, 60))
    small = pixels[None, :, ::4, ::4].double()
    encoded = encode(model, small)
    weights = parts(folder)
    cnn = trunk(weights)
    torch.testing.assert_close(
        encoded.maps, slow_resnet(cnn, small, last=last), rtol=1e-10, atol=1e-10
    )
    reading = model.read("A dog, on red grass.")
    assert reading.prompt == (4, 5, 3, 6, 8, 7, 9)
    scores, maps = explain_at_layer(model, encoded, units(reading), methods.get("grad-cam"))
    known = [4, 5, None, 6, 8, 7, 9]  # there is no comma in the vocabulary
    places = [k for k, token in enumerate(known) if token is not None]
    for row, k in enumerate(places):
        a = encoded.maps.clone().requires_grad_()
        final = slow_resnet(cnn, a, last + 1)[0]
        tokens = [1, *reading.prompt]  # type: ignore[misc]
        value = slow_log_probabilities(weights, final, tokens)[k + 1, tokens[k + 1]]
        (gradient,) = torch.autograd.grad(value, a)
        cam = (gradient[0].mean((1, 2))[:, None, None] * a[0]).sum(0).clamp(min=0)
        torch.testing.assert_close(maps[row], cam.detach(), rtol=1e-7, atol=1e-12)
        assert float(scores[row]) == pytest.approx(value.item(), abs=1e-10)
    assert maps.amax() > 0


def test_a_block_is_a_layer(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    pixels = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    first, stage = (loaded(folder, name).encode(pixels).maps for name in ("resnet.4.0", "resnet.4"))
    assert first.shape == stage.shape and not torch.equal(first, stage)
    assert torch.equal(loaded(folder, "resnet.4.1").encode(pixels).maps, stage)
    with pytest.raises(
        ValueError, match=r"layer 'resnet\.9' of this CNN: unknown; did you mean resnet"
    ):
        vlcam.load(folder, "resnet.9")


def test_preprocessing_is_the_originals(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x"))
    picture = photo(150, 90)
    pixels, placement = model.prepare(picture)
    stretched = np.asarray(picture.resize((224, 224), Image.Resampling.LANCZOS))
    expected = torch.tensor(stretched.copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels, (expected - mean[:, None, None]) / std[:, None, None])
    assert placement.to_photo(-0.5, 223.5) == pytest.approx((-0.5, 149.5))
    for layer, stride in (("resnet.7", 32), ("resnet.6", 16), ("resnet.3", 4)):
        grid = vlcam.load(tmp_path / "x", layer).grid((224, 224))
        assert grid == Grid((224 // stride,) * 2, (0.0, 0.0), (stride, stride))


def test_a_model_is_written_and_read_again(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x", layers=2))
    model.save(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architecture"] == "tutorial-captioner" and config["words"] == WORDS
    for path in (tmp_path / "ours", tmp_path / "ours" / "config.json"):
        again = vlcam.load(path, "resnet.6")
        assert isinstance(again, TutorialCaptioner) and again.layer == "resnet.6"
        before, after = model.module.state_dict(), again.module.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert again.module.config == model.module.config
    config["words"].remove("<end>")
    (tmp_path / "ours" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: .*the vocabulary has no <end>"):
        vlcam.load(tmp_path / "ours")


def embedding(path: Path) -> Tensor:
    model = vlcam.load(path)
    assert isinstance(model, TutorialCaptioner)
    return model.module.decoder.embed.weight


def test_the_files_meant_are_found(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x", "5-3000", seed=1)
    write_checkpoint(folder, "10-1000", seed=2)
    write_checkpoint(folder, "10-1000", suffix=".pkl", seed=3)  # as earlier versions named them
    torch.save({"x": torch.ones(1)}, folder / "encoder-99-1.ckpt")  # none of theirs
    write_checkpoint(folder, "11-1", seed=4)
    (folder / "decoder-11-1.ckpt").unlink()  # its decoder is yet to be written
    for path, file in (
        (folder, "decoder-10-1000.ckpt"),
        (folder / "encoder-5-3000.ckpt", "decoder-5-3000.ckpt"),
        (folder / "decoder-5-3000.ckpt", "decoder-5-3000.ckpt"),
        (folder / "encoder-10-1000.pkl", "decoder-10-1000.pkl"),
    ):
        expected = torch.load(folder / file, weights_only=True)["embed.weight"]
        assert torch.equal(embedding(path), expected), path
    one = write_checkpoint(tmp_path / "one")
    (one / "encoder-5-3000.ckpt").rename(one / "image.pth")
    (one / "decoder-5-3000.ckpt").rename(one / "words.pth")
    assert torch.equal(embedding(one), embedding(one / "words.pth"))
    (one / "words.pth").rename(one / "words.bin")
    with pytest.raises(ValueError, match=r"image\.pth: no decoder beside it; expected dec.*-E"):
        vlcam.load(one)


def test_what_is_meant_may_be_in_doubt(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x", "old")
    write_checkpoint(folder, "new")
    with pytest.raises(ValueError, match=r"which of encoder-new\.ckpt, encoder-old\.ckpt is meant"):
        vlcam.load(folder)
    assert embedding(folder / "decoder-new.ckpt").shape == (10, 5)


@pytest.mark.parametrize("module", ["build_vocab", "__main__", "vocabularies"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_vocabularies_of_any_module_are_read(tmp_path: Path, module: str, protocol: int) -> None:
    folder = write_checkpoint(tmp_path / "x")
    (folder / "vocab.pkl").unlink()
    write_vocabulary(folder / "words.pkl", module, protocol)
    model = vlcam.load(folder)
    assert isinstance(model, TutorialCaptioner) and model.module.config.words == tuple(WORDS)


def test_the_vocabulary_may_lie_where_the_project_has_it(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "models")
    (tmp_path / "data").mkdir()
    (folder / "vocab.pkl").rename(tmp_path / "data" / "vocab.pkl")
    assert embedding(folder).shape == (10, 5)


def test_first_versions_had_the_linear_layer_in_the_resnet(tmp_path: Path) -> None:
    one = loaded(write_checkpoint(tmp_path / "one"))
    two = loaded(write_checkpoint(tmp_path / "two", first_version=True))
    pixels = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    scores = [model.decode(model.encode(pixels), [(4, 5)]) for model in (one, two)]
    assert torch.equal(*scores)


def test_half_precision_weights_are_read(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    for file in folder.glob("*.ckpt"):
        state = torch.load(file, weights_only=True)
        halved = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
        torch.save(halved, file, _use_new_zipfile_serialization=False)  # as old files are
    assert embedding(folder).dtype == torch.float32


def test_unknown_words_are_marked_and_marks_are_no_words(tmp_path: Path) -> None:
    model = loaded(write_checkpoint(tmp_path / "x"))
    found = model.words("A zebra on the <unk> <end> .")
    assert [(w.text, w.tokens, w.unknown) for w in found] == [
        ("a", (4,), False), ("zebra", (3,), True), ("on", (6,), False), ("the", (3,), True),
        ("<unk>", (3,), False), ("<", (3,), True), ("end", (3,), True), (">", (3,), True),
        (".", (9,), False),
    ]  # fmt: skip
    written = MarkedWords(WORDS).written([1, 4, 3, 0, 5, 2, 6])
    assert [word.text for word in written] == ["a", "<unk>", "dog"]
    explanation = vlcam.explain(vlcam.load(tmp_path / "x"), photo(), "a zebra on grass .")
    assert [word.text for word in explanation.words] == ["a", "on", "grass", "."]
    assert explanation.unknown == ("zebra",) and explanation.attention is None
    with pytest.raises(ValueError, match="expected words"):
        words_by_token(["a"])


def test_an_empty_caption_is_an_error(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    state = torch.load(folder / "decoder-5-3000.ckpt", weights_only=True)
    state["linear.bias"][2] = 1000
    torch.save(state, folder / "decoder-5-3000.ckpt")
    with pytest.raises(ValueError, match="empty caption"):
        vlcam.explain(folder, photo())


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _edit(file: str, change: Any) -> Any:
    def apply(folder: Path) -> None:
        state = torch.load(folder / file, weights_only=True)
        change(state)
        torch.save(state, folder / file)

    return apply


ENCODER, DECODER = "encoder-5-3000.ckpt", "decoder-5-3000.ckpt"

PROBLEMS = {
    f"{ENCODER}: no decoder beside it; expected {DECODER}": lambda f: (f / DECODER).unlink(),
    f"{DECODER}: no encoder beside it; expected {ENCODER}": lambda f: (f / ENCODER).unlink(),
    "expected the vocabulary vocab.pkl beside": lambda f: (f / "vocab.pkl").unlink(),
    "found a.pkl, b.pkl": lambda f: [
        (f / "vocab.pkl").replace(f / "a.pkl"), write_vocabulary(f / "b.pkl")
    ],
    f"{ENCODER}: not a readable weights file": lambda f: (f / ENCODER).write_bytes(
        (f / ENCODER).read_bytes()[:-300]
    ),
    f"{DECODER}: not a readable weights file": lambda f: (f / DECODER).write_bytes(
        (f / DECODER).read_bytes()[:-300]
    ),
    f"{ENCODER}: not the weights of an encoder: missing bn.bias": _edit(
        ENCODER, lambda s: s.pop("bn.bias")
    ),
    f"{ENCODER}: not the weights of an encoder: missing 7.0.bn3.bias": _edit(
        ENCODER, lambda s: s.pop("resnet.7.0.bn3.bias")
    ),
    f"{DECODER}: not the weights of a decoder: unexpected x0, x1, x2 and 2 more": _edit(
        DECODER, lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    f"{DECODER}: not the weights of a decoder: it takes 6 numbers": _edit(
        DECODER, lambda s: s.update({"embed.weight": torch.zeros(10, 6)})
    ),
    "it has 11 words": _edit(DECODER, lambda s: s.update({"embed.weight": torch.zeros(11, 5)})),
    f"{ENCODER}: not the weights of an encoder: linear takes 9 features of a CNN of 8": _edit(
        ENCODER, lambda s: s.update({"linear.weight": torch.zeros(5, 9)})
    ),
    "vocab.pkl: it asks for pathlib.Path": lambda f: (f / "vocab.pkl").write_bytes(
        pickle.dumps({"word2idx": _Evil(f / "ran")})
    ),
    f"{DECODER}: not a readable weights file (it asks for": _edit(
        DECODER, lambda s: s.update({"evil": _Evil(Path("ran"))})
    ),
    "vocab.pkl: damaged": lambda f: (f / "vocab.pkl").write_bytes(
        (f / "vocab.pkl").read_bytes()[:-20]
    ),
    "vocab.pkl: not a vocabulary of this project: the vocabulary has no <end>": (
        lambda f: (f / "vocab.pkl").write_bytes(
            (f / "vocab.pkl").read_bytes().replace(b"<end>", b"<eos>")
        )
    ),
    "vocab.pkl: not a vocabulary of this project: expected words": (
        lambda f: (f / "vocab.pkl").write_bytes(pickle.dumps(["word2idx"]))
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = write_checkpoint(tmp_path / "bad")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (folder / "ran").exists() and not Path("ran").exists()


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    assert tutorial_captioner.recognises(folder)
    assert tutorial_captioner.recognises(folder / DECODER)
    assert not tutorial_captioner.recognises(folder / "vocab.pkl")
    other = tmp_path / "other"
    other.mkdir()
    assert not tutorial_captioner.recognises(other)
    torch.save({"embed.weight": torch.ones(1)}, other / "encoder-1-1.ckpt")
    (other / "decoder-1-1.pkl").write_bytes(b"PK\x03\x04")
    (other / "x.pth").write_bytes(b"")
    assert not tutorial_captioner.recognises(other)
