"""BLIP from transformers: a tiny random model with a WordPiece tokenizer, saved and loaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    BlipImageProcessor,
)

import vlcam
from captioning.models.blip import BlipCaptioner, load
from tests.samples.captioning.blip import VOCABULARY, save, save_tokenizer
from tests.samples.pretrained import photo
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, explain_at_pixels, score
from vlcam.attribution.targets import Target, Term, units
from vlcam.geometry.grid import Grid


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("blip") / "tiny-blip")


@pytest.fixture
def model(folder: Path) -> Iterator[BlipCaptioner]:
    found = vlcam.load(folder)
    assert isinstance(found, BlipCaptioner)
    yield found


def look(model: BlipCaptioner, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return model.prepare(photo(seed=seed))[0][None].to(dtype)


def original_scores(module: Any, pixels: Tensor, tokens: list[int]) -> Tensor:
    """log p of each token by the model's own forward."""
    ids = torch.tensor([[5, *tokens]])
    logits = module(pixel_values=pixels, input_ids=ids).logits
    return logits.log_softmax(-1)[0, range(len(tokens)), tokens]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [save(tmp_path_factory.mktemp("blips") / str(seed), seed) for seed in range(1, 5)]


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("prompt", ["", "a photo of"])
def test_captions_equal_generate(folders: list[Path], beam: int, prompt: str) -> None:
    captions = set()
    for folder in folders:
        model = load(folder, prompt=prompt)
        pixels = look(model)
        written = model.write(encode(model, pixels), beam)
        given = [word.tokens[0] for word in model.words(prompt)]
        ids = torch.tensor([[2, *given, 3]])  # [CLS] ... [SEP], as its processor makes it
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its default length is a default
            original = model.module.generate(pixel_values=pixels, input_ids=ids, num_beams=beam)
        tokens = original[0].tolist()[1:]
        tokens = tokens[: tokens.index(3)] if 3 in tokens else tokens
        assert list(written.prompt) == tokens  # type: ignore[call-overload]
        assert tokens[: len(given)] == given and len(tokens) > len(given)
        captions.add(tuple(tokens))
    assert len(captions) == len(folders)


@pytest.mark.parametrize("beam", [1, 3])
def test_scores_of_its_own_caption_sum_to_generates(folders: list[Path], beam: int) -> None:
    """Teacher forcing gives what the search gave, its end token ([SEP]) included."""
    ended = 0
    for folder in folders:
        model = load(folder)
        model.module.double()
        with torch.no_grad():  # random models hardly ever end
            model.module.text_decoder.cls.predictions.bias[3] += 3
        pixels = look(model, torch.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its default length is a default
            found = model.module.generate(
                pixel_values=pixels, num_beams=beam, length_penalty=0.0,
                output_scores=True, output_logits=True, return_dict_in_generate=True,
            )  # fmt: skip
        tokens = found.sequences[0, 1:].tolist()
        if 3 in tokens:
            tokens, ended = tokens[: tokens.index(3) + 1], ended + 1
        if beam == 1:
            steps = torch.stack(found.logits)[:, 0].log_softmax(-1)
            expected = sum(float(step[token]) for step, token in zip(steps, tokens, strict=True))
        else:
            expected = float(found.sequences_scores[0])
        caption = Target("caption", (Term(1.0, tuple(tokens), tuple(range(len(tokens)))),))
        own = float(score(model, encode(model, pixels), [caption]))
        # A beam search sums in float32.
        assert own == pytest.approx(expected, abs=1e-6 if beam == 1 else 1e-5)
    assert ended


def test_rules_leave_the_language_model_alone(tmp_path: Path) -> None:
    """Its ReLUs are not the CNN's: a vision model without any is refused, whatever it has."""
    model = load(save(tmp_path / "rectified", hidden_act="relu"))
    words = units(model.read("a dog"))
    with pytest.raises(ValueError, match="no ReLU"):
        explain_at_pixels(model, look(model), words, methods.get("guided-backprop"))


@pytest.mark.parametrize("layer", [None, "vision_model.encoder.layers.0"])
def test_log_probabilities_equal_the_models_own(folder: Path, layer: str | None) -> None:
    model = load(folder, layer)
    model.module.double()
    pixels = look(model, torch.float64)
    features = encode(model, pixels)
    captions = [[6, 7, 11], [6, 8, 13, 9, 10, 14, 15]]
    both = features.rows(torch.tensor([0, 0]))
    scores = model.decode(both, [tuple(c) for c in captions])
    for row, tokens in enumerate(captions):
        expected = original_scores(model.module, pixels, tokens)
        torch.testing.assert_close(scores[row, : len(tokens)], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [2, 0])
def test_maps_equal_one_word_at_a_time(folder: Path, number: int) -> None:
    """Against the whole model run once per word, its layer's output replaced by a leaf."""
    model = load(folder, f"vision_model.encoder.layers.{number}")
    module = model.module.double()
    pixels = look(model, torch.float64)
    reading = model.read("A photographer's dogs running")
    assert [unit.text for unit in reading.units if not unit.unknown][:2] == ["A", "photographer"]
    features = encode(model, pixels)
    assert features.maps.shape == (1, 12, 4, 4)
    scores, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    known = [unit for unit in reading.units if not unit.unknown]
    tokens = list(reading.prompt)  # type: ignore[call-overload]
    kept: dict[str, Tensor] = {}

    def cut(_: Any, __: Any, output: Tensor) -> Tensor:
        kept["patches"] = output[:, 1:].detach().requires_grad_()
        return torch.cat([output[:, :1].detach(), kept["patches"]], 1)

    handle = module.vision_model.encoder.layers[number].register_forward_hook(cut)
    for k, unit in enumerate(known):
        value = original_scores(module, pixels, tokens)[list(unit.scores)].sum()
        (gradient,) = torch.autograd.grad(value, kept["patches"])
        cam = (gradient.mean(1, keepdim=True) * kept["patches"]).sum(2).clamp(min=0)
        expected = cam.detach().reshape(4, 4)  # raster order
        torch.testing.assert_close(maps[k].double(), expected, rtol=1e-5, atol=1e-9)
        assert float(scores[k]) == pytest.approx(value.item(), abs=1e-5)
    handle.remove()
    assert maps.amax() > 0


def test_words_are_groups_of_tokens(model: BlipCaptioner) -> None:
    words = model.words("A Photographers dog, zebra [SEP]")
    assert [word.text for word in words] == ["A", "Photographers", "dog", ",", "zebra", "[SEP]"]
    ids = [[VOCABULARY[token] for token in word.tokens] for word in words]
    assert ids[:4] == [["a"], ["photo", "##grapher", "##s"], ["dog"], [","]]
    assert [word.unknown for word in words] == [False, False, False, False, True, True]
    reading = model.read("a photographers dog")
    assert [unit.scores for unit in reading.units] == [(0,), (1, 2, 3), (4,)]
    with pytest.raises(ValueError, match="25 tokens; tiny-blip reads at most 24"):
        model.read("a " * 25)


def test_cells_are_patches(model: BlipCaptioner) -> None:
    assert model.grid((32, 32)) == Grid((4, 4), (3.5, 3.5), (8.0, 8.0))
    maps = encode(model, look(model)).maps
    changed = look(model)
    changed[:, :, 8:16, 24:32] += 1  # the patch of row 1, column 3
    first = load_first(model)
    moved = (first(changed) - first(look(model))).abs().amax(1)[0]
    assert maps.shape[2:] == (4, 4) and moved.argmax() == 1 * 4 + 3


def load_first(model: BlipCaptioner) -> Any:
    embeddings = model.module.vision_model.embeddings
    return lambda pixels: embeddings(pixels)[:, 1:].transpose(1, 2).unflatten(2, (4, 4)).detach()


def test_explained_with_one_look_and_no_trace(model: BlipCaptioner) -> None:
    module = model.module
    module.vision_model.encoder.layers[1].train()  # flags are put back one by one
    state = {k: v.clone() for k, v in module.state_dict().items()}
    flags = [m.training for m in module.modules()]
    looks = []
    handle = module.vision_model.embeddings.register_forward_hook(lambda *_: looks.append(1))
    hooks = [len(m._forward_hooks) for m in module.modules()]
    random = torch.random.get_rng_state()

    def unchanged() -> None:
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
        assert [m.training for m in module.modules()] == flags
        assert [len(m._forward_hooks) for m in module.modules()] == hooks
        assert torch.equal(torch.random.get_rng_state(), random)
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())

    explanation = vlcam.explain(model, photo(), "a photographer running")
    assert len(looks) == 1
    assert [word.text for word in explanation.words] == ["a", "photographer", "running"]
    assert explanation.maps.shape == (3, 4, 4)
    unchanged()

    def fail(*_: Any) -> None:
        raise RuntimeError("half-way")

    broken = module.text_decoder.bert.encoder.layer[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="half-way"):
        vlcam.explain(model, photo(), "a dog")
    broken.remove()
    unchanged()
    handle.remove()


def test_gradients_at_the_pixels_follow_the_class_token(folder: Path) -> None:
    model = load(folder)
    module = model.module.double()
    pixels = look(model, torch.float64)
    reading = model.read("a dogs")
    _, maps = explain_at_pixels(model, pixels, units(reading), methods.get("gradient"))
    leaf = pixels.clone().requires_grad_()
    value = original_scores(module, leaf, [6, 7, 11])[1:].sum()
    (gradient,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(maps[1].double(), gradient[0].abs().amax(0), rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="no ReLU"):
        explain_at_pixels(model, pixels, units(reading), methods.get("guided-backprop"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(folder: Path, dtype: torch.dtype) -> None:
    exact = vlcam.explain(folder, photo(), "a dog of grass")
    model = load(folder)
    model.module.to(dtype)
    rough = vlcam.explain(model, photo(), "a dog of grass")
    assert rough.maps.dtype == torch.float32
    assert vlcam.explain(model, photo()).caption
    for a, b in zip(exact.words, rough.words, strict=True):
        assert a.log_probability == pytest.approx(b.log_probability, abs=0.5)


def test_the_processors_settings_are_read(folder: Path, tmp_path: Path) -> None:
    copy = save(tmp_path / "with-processor")
    settings = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "resample": 2}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    picture = photo(32, 32)  # as large as the input
    pixels, _ = load(copy).prepare(picture)
    expected = (torch.tensor(np.asarray(picture).copy()).permute(2, 0, 1) / 255 - 0.5) / 0.25
    torch.testing.assert_close(pixels, expected)
    default, _ = load(folder).prepare(picture)
    assert not torch.allclose(default, expected)


def test_saved_and_loaded(tmp_path: Path) -> None:
    folder = save(tmp_path / "kept")
    size = {"height": 32, "width": 32}
    BlipImageProcessor(size=size, image_mean=[0.1, 0.2, 0.3]).save_pretrained(folder)
    model = load(folder)
    model.save(tmp_path / "again")
    again = load(tmp_path / "again")
    a, b = (vlcam.explain(m, photo()) for m in (model, again))
    assert a.words == b.words and torch.equal(a.maps, b.maps)
    assert torch.equal(look(model), look(again))
    own = BlipImageProcessor.from_pretrained(folder)(images=photo(), return_tensors="pt")
    assert torch.equal(look(model), own.pixel_values)


def _weights(change: Any) -> Any:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", {"format": "pt"})

    return apply


def _truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-500])


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _evil(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": _Evil(folder / "ran")}, folder / "pytorch_model.bin")


KEY = "vision_model.post_layernorm.weight"
PROBLEMS = {
    "no tokenizer; expected tokenizer.json": lambda f: (f / "tokenizer.json").unlink(),
    f"missing {KEY}": _weights(lambda s: s.pop(KEY)),
    "unexpected x0, x1, x2 and 2 more": _weights(
        lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    "the tokenizer has token 18": lambda f: save_tokenizer(f, [*VOCABULARY, "cat"]),
    "cannot be loaded": _truncate,
    "cannot be loaded (": _evil,
    f"{KEY} has shape (5,), expected (12,)": _weights(lambda s: s.update({KEY: torch.zeros(5)})),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_folders_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = save(tmp_path / "bad")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(folder) in str(error.value) and not (folder / "ran").exists()


def test_other_layers_and_models_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no layer 'layer4'; known: vision_model\.encoder"):
        vlcam.load(folder, "layer4")
    config = json.loads((folder / "config.json").read_text())
    other = tmp_path / "vqa"
    other.mkdir()
    config["architectures"] = ["BlipForImageTextRetrieval"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not a model vlcam recognises"):
        vlcam.load(other)


def test_class_token_passes_beside_the_maps(model: BlipCaptioner) -> None:
    features = encode(model, look(model))
    other = FeatureMaps(features.maps, {name: -rest for name, rest in features.rest.items()})
    prompt = [(6, 7)]
    assert not torch.allclose(model.decode(features, prompt), model.decode(other, prompt))
