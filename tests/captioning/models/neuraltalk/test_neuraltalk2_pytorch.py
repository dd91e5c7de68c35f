"""ruotianluo's captioners: tiny checkpoints in the published layout against slow plain loops."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import vlcam
from captioning.models.neuraltalk import neuraltalk2_pytorch
from captioning.models.neuraltalk.neuraltalk2_pytorch import NeuralTalk2PyTorch
from tests.samples.captioning.neuraltalk2_pytorch import (
    EMBED,
    FEATURE,
    HIDDEN,
    WORDS,
    write_checkpoint,
)
from tests.samples.foreign import resnet_state
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.targets import Target, Term, units
from vlcam.geometry.grid import Grid

KINDS = ("fc", "newfc", "show_tell")


def slow_resnet(path: Path, x: Tensor, first: int = 0, last: int = 7) -> Tensor:
    """Modules ``first`` ... ``last`` of the Caffe-style ResNet, written out in functions."""
    state = {k: v.double() for k, v in torch.load(path, weights_only=True).items()}

    def norm(y: Tensor, name: str) -> Tensor:
        w = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        mean, var, weight, bias = (v[:, None, None] for v in w)
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    if first == 0:
        x = norm(F.conv2d(x, state["0.weight"], stride=2, padding=3), "1").clamp(min=0)
        # Unpadded, and the last window may hang over the edge.
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
    for stage in range(max(first, 4), last + 1):
        for block in range(2 if stage == 4 else 1):
            name, stride = f"{stage}.{block}", 2 if stage > 4 and block == 0 else 1
            y = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride)
            y = norm(y, f"{name}.bn1").clamp(min=0)
            y = F.conv2d(y, state[f"{name}.conv2.weight"], padding=1)
            y = norm(y, f"{name}.bn2").clamp(min=0)
            y = norm(F.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if block == 0:
                x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
    return x


def slow_log_probabilities(folder: Path, kind: str, feature: Tensor, tokens: list[int]) -> Tensor:
    """Row l: the log-probabilities of word l, after ``tokens[:l]``; one step after the other."""
    state = {k: v.double() for k, v in torch.load(folder / "model.pth", weights_only=True).items()}
    image, core = ("fc_embed", "_core") if kind == "newfc" else ("img_embed", "core")
    h = c = torch.zeros(HIDDEN, dtype=torch.float64)
    inputs = [state[f"{image}.weight"] @ feature + state[f"{image}.bias"]]
    inputs += [state["embed.weight"][token] for token in [0, *tokens]]
    rows = []
    for x in inputs:
        if kind == "show_tell":
            z = state["core.weight_ih_l0"] @ x + state["core.weight_hh_l0"] @ h
            i, f, g, o = (z[k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
            g = g.tanh()
        else:
            z = state[f"{core}.i2h.weight"] @ x + state[f"{core}.i2h.bias"]
            z = z + state[f"{core}.h2h.weight"] @ h + state[f"{core}.h2h.bias"]
            i, f, o, one, two = (z[k * HIDDEN : (k + 1) * HIDDEN] for k in range(5))
            g = torch.where(one > two, one, two)
        c = c / (1 + (-f).exp()) + g / (1 + (-i).exp())
        h = c.tanh() / (1 + (-o).exp())
        y = state["logit.weight"] @ h + state["logit.bias"]
        rows.append(y - y.exp().sum().log())
    return torch.stack(rows[1:])


def slow_caption(folder: Path, kind: str, feature: Tensor, beam: int) -> list[int]:
    """Greedy or beam search over whole captions, each scored anew from the start."""
    if beam == 1:
        tokens: list[int] = []
        while len(tokens) < 6:
            best = int(slow_log_probabilities(folder, kind, feature, tokens)[-1].argmax())
            if best == 0:
                return tokens
            tokens.append(best)
        return tokens
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for step in range(6):
        found = []
        for total, tokens in beams:
            scores = slow_log_probabilities(folder, kind, feature, tokens)[-1]
            scores[-1] -= 1000
            found += [(total + float(score), [*tokens, word]) for word, score in enumerate(scores)]
        beams = sorted(found, key=lambda candidate: -candidate[0])[:beam]
        for k, (total, tokens) in enumerate(beams):
            if tokens[-1] == 0 or step == 5:
                done.append((total, tokens))
                beams[k] = (-1000.0, tokens)
    # The older models' first finished caption wins (their sums are overwritten in place).
    tokens = max(done, key=lambda d: d[0])[1] if kind == "newfc" else done[0][1]
    return tokens[: tokens.index(0)] if 0 in tokens else tokens


def loaded(path: Path, layer: str | None = None) -> NeuralTalk2PyTorch:
    model = vlcam.load(path, layer)
    assert isinstance(model, NeuralTalk2PyTorch)
    model.module.double()
    return model


def features(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(FEATURE, generator=generator, dtype=torch.float64)


def photo(width: int = 300, height: int = 200) -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (height // 20, width // 20, 3), np.uint8)
    return Image.fromarray(noise).resize((width, height))


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_equal_slow_loops(tmp_path: Path, kind: str) -> None:
    model = loaded(write_checkpoint(tmp_path / kind, kind))
    captions = [[1, 2, 3, 4, 5], [2, 6, 1]]
    maps = torch.stack([features(1), features(2)])[:, :, None, None]
    scores = model.decode(FeatureMaps(maps), [tuple(c) for c in captions])
    for row, tokens in enumerate(captions):
        slow = slow_log_probabilities(tmp_path / kind, kind, maps[row, :, 0, 0], tokens)
        expected = torch.stack([slow[k, token] for k, token in enumerate(tokens)])
        torch.testing.assert_close(scores[row, : len(tokens)], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_captions_equal_slow_search(tmp_path: Path, kind: str) -> None:
    written = set()
    for seed in range(3):
        folder = write_checkpoint(tmp_path / f"{kind}{seed}", kind, seed=seed)
        model = loaded(folder)
        for beam in (1, 2, 3, 5):
            feature = features(seed + 10)
            words = model.generate(FeatureMaps(feature[None, :, None, None]), beam)
            tokens = [word.tokens[0] for word in words]
            assert tokens == slow_caption(folder, kind, feature, beam), (seed, beam)
            assert [word.text for word in words] == [WORDS[t - 1] for t in tokens]
            written.add(tuple(tokens))
    assert len(written) > 2


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_its_own_caption_sum_to_the_searchs(tmp_path: Path, kind: str, beam: int) -> None:
    """The end is scored as a word is: token 0 behind the last."""
    lengths = set()
    for seed in range(4):
        folder = write_checkpoint(tmp_path / f"{kind}{seed}", kind, seed=seed)
        model = loaded(folder)
        for number in (1, 2, 3):
            feature = features(number)
            maps = FeatureMaps(feature[None, :, None, None])
            tokens = [word.tokens[0] for word in model.generate(maps, beam)]
            ended = [*tokens, 0]
            slow = slow_log_probabilities(folder, kind, feature, tokens)
            expected = sum(float(slow[k, token]) for k, token in enumerate(ended))
            whole = Target("all", (Term(1.0, tuple(ended), tuple(range(len(ended)))),))
            assert float(score(model, maps, [whole])) == pytest.approx(expected, abs=1e-10)
            lengths.add(len(tokens))
    assert max(lengths) > 1


@pytest.mark.parametrize(("layer", "channels"), [("7", 8), ("5", 12)])
def test_maps_equal_one_word_at_a_time(tmp_path: Path, layer: str, channels: int) -> None:
    folder = write_checkpoint(tmp_path / "ft", cnn="model-cnn.pth")
    model = loaded(folder, layer)
    pixels, _ = model.prepare(photo())
    encoded = encode(model, pixels[None].double())
    assert encoded.maps.shape[1] == channels
    cnn = folder / "model-cnn.pth"
    expected_maps = slow_resnet(cnn, pixels[None].double(), last=int(layer))
    torch.testing.assert_close(encoded.maps, expected_maps, rtol=0, atol=1e-10)
    reading = model.read("A dog on red grass.")
    scores, maps = explain_at_layer(model, encoded, units(reading), methods.get("grad-cam"))
    tokens = [1, 2, 3, 5, 4]
    assert reading.prompt == tuple(tokens)
    for k, token in enumerate(tokens):
        a = expected_maps.clone().requires_grad_()
        feature = slow_resnet(cnn, a, int(layer) + 1)[0].mean((1, 2))
        value = slow_log_probabilities(folder, "fc", feature, tokens)[k, token]
        (gradient,) = torch.autograd.grad(value, a)
        cam = (gradient[0].mean((1, 2))[:, None, None] * a[0]).sum(0).clamp(min=0)
        torch.testing.assert_close(maps[k].double(), cam.detach(), rtol=1e-5, atol=1e-9)
        assert float(scores[k]) == pytest.approx(value.item(), abs=1e-6)
    assert maps.amax() > 0


def test_a_photo_is_explained_with_one_look_and_no_trace(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "ft", "fc", "model-cnn.pth")
    model = vlcam.load(folder / "infos_tiny.pkl")
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    calls = []
    assert isinstance(model, NeuralTalk2PyTorch) and model.module.cnn is not None
    handle = model.module.cnn[0].register_forward_hook(
        lambda _, inputs, __: calls.append(inputs[0].device.type)
    )
    explanation = vlcam.explain(model, photo(), "a dog on zebra grass")
    handle.remove()
    assert calls.count("cpu") == 1  # and one of shapes alone, for the places of the cells
    assert [word.text for word in explanation.words] == ["a", "dog", "on", "grass"]
    assert explanation.unknown == ("zebra",)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    assert not any(p.grad is not None for p in model.module.parameters())


def test_preprocessing_is_the_centre_of_a_stretched_photo(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "ft", cnn="model-cnn.pth"))
    picture = photo(256, 256)  # as large as it is stretched to, so only cut
    pixels, placement = model.prepare(picture)
    expected = torch.tensor(np.asarray(picture)[16:240, 16:240].copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels, (expected - mean[:, None, None]) / std[:, None, None])
    assert placement.to_photo(0, 0) == (16, 16)


def test_cells_lie_where_unpadded_pooling_and_strides_put_them(tmp_path: Path) -> None:
    """conv1: cell i at pixel 2i; the pool's first window is its cells 0, 1, 2: centre, pixel 2."""
    folder = write_checkpoint(tmp_path / "ft", cnn="model-cnn.pth")
    for layer, stride in (("4", 4), ("5", 8), ("6", 16), ("7", 32)):
        grid = vlcam.load(folder, layer).grid((224, 224))
        assert grid == Grid((224 // stride,) * 2, (2.0, 2.0), (stride, stride))


def test_without_cnn_features_are_decoded_and_photos_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "features")
    model = vlcam.load(folder)
    with pytest.raises(ValueError, match=r"model-cnn\.pth is missing"):
        vlcam.explain(model, photo(), "a dog")
    with pytest.raises(ValueError, match=r"model-cnn\.pth is missing"):
        vlcam.load(folder, "6")
    generator = torch.Generator().manual_seed(5)
    trunk = resnet_state(lambda *shape: torch.randn(*shape, generator=generator))
    names = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
    renamed = {names[k[0]] + k[1:]: v for k, v in trunk.items()}
    torch.save(renamed | {"fc.weight": torch.zeros(2, 8)}, folder / "resnet101.pth")
    explanation = vlcam.explain(folder, photo(), "a dog")  # in the photo's own size
    assert explanation.placement.input_size == (200, 300)
    assert explanation.maps.shape[1:] == (7, 10)


def test_the_best_model_is_taken(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "two", seed=1)
    write_checkpoint(folder, seed=2, suffix="-best")
    best = torch.load(folder / "model-best.pth", weights_only=True)["embed.weight"]
    for path, equal in ((folder, True), (folder / "model.pth", False)):
        model = vlcam.load(path)
        assert isinstance(model, NeuralTalk2PyTorch)
        assert torch.equal(model.language.embed.weight, best) is equal


def test_an_empty_caption_is_an_error(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "empty", cnn="model-cnn.pth")
    state = torch.load(folder / "model.pth", weights_only=True)
    state["logit.bias"][0] = 1000
    torch.save(state, folder / "model.pth")
    with pytest.raises(ValueError, match="empty caption"):
        vlcam.explain(folder, photo())


def test_half_precision_is_close(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "half", cnn="model-cnn.pth"))
    exact = vlcam.explain(model, photo(), "a dog on grass")
    model.module.bfloat16()
    rough = vlcam.explain(model, photo(), "a dog on grass")
    assert rough.maps.dtype == torch.float32
    pairs = zip(exact.words, rough.words, strict=True)
    assert all(abs(a.log_probability - b.log_probability) < 0.2 for a, b in pairs)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _edit(file: str, change: Any) -> Any:
    def apply(folder: Path) -> None:
        path = folder / file
        if file.endswith(".pkl"):
            data = pickle.loads(path.read_bytes())
            change(data)
            path.write_bytes(pickle.dumps(data))
        else:
            state = torch.load(path, weights_only=True)
            change(state)
            torch.save(state, path)

    return apply


PROBLEMS = {
    "topdown": _edit("infos_tiny.pkl", lambda d: setattr(d["opt"], "caption_model", "topdown")),
    "it has 6 words, the vocabulary 7": _edit(
        "infos_tiny.pkl", lambda d: d["vocab"].update({"7": "cat"})
    ),
    "ids are not 1, 2, 3": _edit("infos_tiny.pkl", lambda d: d["vocab"].pop("2")),
    "lacks an option or the vocabulary": _edit("infos_tiny.pkl", lambda d: d.pop("vocab")),
    "missing core.h2h.bias": _edit("model.pth", lambda s: s.pop("core.h2h.bias")),
    "unexpected x0, x1, x2 and 2 more": _edit(
        "model.pth", lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    "only plain data": lambda f: (f / "infos_tiny.pkl").write_bytes(
        pickle.dumps({"opt": _Evil(f / "ran")})
    ),
    "infos_tiny.pkl: damaged": lambda f: (f / "infos_tiny.pkl").write_bytes(
        (f / "infos_tiny.pkl").read_bytes()[:-40]
    ),
    "model.pth: not a readable weights file": lambda f: torch.save(
        {"embed.weight": _Evil(f / "ran")}, f / "model.pth"
    ),
    "model.pth: not a readable": lambda f: (f / "model.pth").write_bytes(
        (f / "model.pth").read_bytes()[:3000]
    ),
    "no model.pth": lambda f: (f / "model.pth").unlink(),
    "model-cnn.pth: not the weights of a ResNet": lambda f: torch.save(
        {"0.weight": torch.zeros(4, 3, 7, 7)}, f / "model-cnn.pth"
    ),
}


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = write_checkpoint(tmp_path / "bad", cnn="model-cnn.pth")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (folder / "ran").exists()


def test_unknown_layers_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "fc", cnn="model-cnn.pth")
    with pytest.raises(ValueError, match="no layer '9'; known: 4, 5, 6, 7"):
        vlcam.load(folder, "9")
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.pkl").write_bytes(pickle.dumps({"a": 1}))
    assert not neuraltalk2_pytorch.recognises(other)
    assert neuraltalk2_pytorch.recognises(folder / "model.pth")


@pytest.mark.parametrize("cnn", [None, "model-cnn.pth", "resnet101.pth"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_the_same_model(tmp_path: Path, kind: str, cnn: str | None) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "published", kind, cnn))
    model.save(tmp_path / "saved")
    again = vlcam.load(tmp_path / "saved", "5" if cnn else None)
    assert isinstance(model, NeuralTalk2PyTorch) and isinstance(again, NeuralTalk2PyTorch)
    assert again.name == model.name and again.module.config == model.module.config
    expected, found = model.module.state_dict(), again.module.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    if cnn is None:
        maps = FeatureMaps(features().float()[None, :, None, None])
        with pytest.raises(ValueError, match=r"saved: no CNN to see photos with"):
            again.prepare(photo())
    else:
        pixels, _ = model.prepare(photo())
        assert torch.equal(again.prepare(photo())[0], pixels)
        maps = encode(again, pixels[None])
        assert maps.maps.shape[1] == 12
    assert neuraltalk2_pytorch.recognises(tmp_path / "saved" / "config.json")
    seventh = vlcam.load(tmp_path / "saved")
    maps = encode(seventh, pixels[None]) if cnn else maps
    assert isinstance(seventh, NeuralTalk2PyTorch)
    for beam in (1, 3):
        assert seventh.generate(maps, beam) == model.generate(maps, beam)


def test_cells_of_other_kinds_and_depths(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "gru", "show_tell")
    state = torch.load(folder / "model.pth", weights_only=True)
    generator = torch.Generator().manual_seed(7)
    for layer, size in ((0, EMBED), (1, HIDDEN)):
        for name, inputs in (("ih", size), ("hh", HIDDEN)):
            matrix = torch.randn(3 * HIDDEN, inputs, generator=generator)
            state[f"core.weight_{name}_l{layer}"] = matrix
    torch.save(state, folder / "model.pth")
    _edit("infos_tiny.pkl", lambda d: setattr(d["opt"], "rnn_type", "GRU"))(folder)
    model = loaded(folder)
    cell = torch.nn.GRU(EMBED, HIDDEN, 2, bias=False)
    cell.load_state_dict({k[5:]: v for k, v in state.items() if k.startswith("core.")})
    words = [0, 2, 3]
    image = features().float() @ state["img_embed.weight"].T + state["img_embed.bias"]
    outputs, _ = cell(torch.stack([image, *(state["embed.weight"][w] for w in words)])[:, None])
    logits = outputs[1:, 0] @ state["logit.weight"].T + state["logit.bias"]
    expected = logits.log_softmax(1)[[0, 1, 2], [2, 3, 1]].double().detach()
    model.save(tmp_path / "saved")
    for one in (model, loaded(tmp_path / "saved")):
        scores = one.decode(FeatureMaps(features()[None, :, None, None]), [(2, 3, 1)])[0]
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_models_saved_within_data_parallel_and_of_layers_in_name_alone(tmp_path: Path) -> None:
    """``fc`` and ``newfc`` have one layer, whatever their options say."""
    folder = write_checkpoint(tmp_path / "fc", "fc", "model-cnn.pth")
    expected = vlcam.load(folder).module.state_dict()
    _edit("infos_tiny.pkl", lambda d: setattr(d["opt"], "num_layers", 2))(folder)
    for file in ("model.pth", "model-cnn.pth"):
        state = torch.load(folder / file, weights_only=True)
        torch.save({f"module.{key}": value for key, value in state.items()}, folder / file)
    found = vlcam.load(folder).module.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "topdown"}, "kind is 'topdown'"),
        ({"longest": 0}, "longest is 0"),
        ({"words": ["a", 2]}, "words must be a list of texts"),
        ({"words": ["a"]}, "it has 6 words, the vocabulary 1"),
        ({"cell": "rnn", "kind": "show_tell"}, "rnn_type rnn is neither LSTM nor GRU"),
        ({"kind": "show_tell"}, "missing language.core.weight_"),
        ({"more": 1}, "not a captioner's configuration"),
    ],
)
def test_a_saved_folder_that_was_spoilt(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    vlcam.load(write_checkpoint(tmp_path / "published", "fc")).save(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "saved" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError) as error:
        vlcam.load(tmp_path / "saved")
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "saved"))
    assert "\n" not in str(error.value)
