"""Cadene's vqa.pytorch against plain loops over numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor
from torchvision import transforms

import vlcam
from tests.samples.vqa.vqa_pytorch import (
    ANSWERS,
    ARCHITECTURES,
    CNN,
    ENCODERS,
    GLIMPSES,
    HIDDEN,
    RANK,
    SIZE,
    features,
    loaded,
    photo,
    write_checkpoint,
)
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Grid


def slow_stages(path: Path, x: Tensor, first: int = 0, last: int = 4) -> Tensor:
    """Stages ``first`` ... ``last`` of the ResNet written out in functions; 0 is the stem."""
    state = {k: v.double() for k, v in torch.load(path, weights_only=True).items()}

    def norm(y: Tensor, name: str) -> Tensor:
        w = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        mean, var, weight, bias = (v[:, None, None] for v in w)
        return (y - mean) / (var + 1e-5).sqrt() * weight + bias

    def convolved(y: Tensor, name: str, **places: int) -> Tensor:
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], **places)

    if first == 0:
        x = norm(convolved(x, "conv1", stride=2, padding=3), "bn1").clamp(min=0)
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    for stage in range(max(first, 1), last + 1):
        for block in range(2 if stage == 2 else 1):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(convolved(x, f"{name}.conv1"), f"{name}.bn1").clamp(min=0)
            y = convolved(y, f"{name}.conv2", stride=stride, padding=1)
            y = norm(y, f"{name}.bn2").clamp(min=0)
            y = norm(convolved(y, f"{name}.conv3"), f"{name}.bn3")
            if block == 0:
                x = convolved(x, f"{name}.downsample.0", stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = (x + y).clamp(min=0)
    return x


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def slow_question(state: dict[str, Tensor], encoder: str, tokens: list[int]) -> Tensor:
    """The vector of a question of real tokens alone."""

    def affine(name: str, x: Tensor) -> Tensor:
        bias = state.get(name.replace("weight_", "bias_"), torch.zeros(1))
        return state[name] @ x + (bias if "gru_cell" not in name else 0)

    def gru(place: str, words: list[Tensor]) -> Tensor:
        h = torch.zeros(HIDDEN, dtype=torch.float64)
        for x in words:
            of_x, of_h = affine(place % "weight_ih", x), affine(place % "weight_hh", h)
            r, z = (
                sigmoid(of_x[k * HIDDEN : (k + 1) * HIDDEN] + of_h[k * HIDDEN : (k + 1) * HIDDEN])
                for k in (0, 1)
            )
            n = (of_x[2 * HIDDEN :] + r * of_h[2 * HIDDEN :]).tanh()
            h = (1 - z) * n + z * h
        return h

    words = [state["seq2vec.embedding.weight"][token] for token in tokens]
    if encoder == "BayesianUniSkip":
        cell = "seq2vec.rnn.gru_cell.weight_"
        h = torch.zeros(HIDDEN, dtype=torch.float64)
        for x in words:
            of_x = {g: state[f"{cell}i{g}.weight"] @ x + state[f"{cell}i{g}.bias"] for g in "rin"}
            of_h = {g: state[f"{cell}h{g}.weight"] @ h for g in "rin"}
            r, i = sigmoid(of_x["r"] + of_h["r"]), sigmoid(of_x["i"] + of_h["i"])
            h = (1 - i) * (of_x["n"] + r * of_h["n"]).tanh() + i * h
        return h
    if encoder == "2-lstm":  # the last word alone
        x, outputs = words[-1].tanh(), []
        for layer in (0, 1):
            place = f"seq2vec.rnn_{layer}.%s_l0"
            z = affine(place % "weight_ih", x) + state[place % "bias_hh"]
            i, _, g, o = (z[k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
            x = sigmoid(o) * (sigmoid(i) * g.tanh()).tanh()
            outputs.append(x)
        return torch.cat(outputs)
    place = "seq2vec.rnn.%s" if encoder == "DropUniSkip" else "seq2vec.rnn.%s_l0"
    forward = gru(place, words)
    if encoder != "BiSkip":
        return forward
    return torch.cat([forward, gru("seq2vec.rnn.%s_l0_reverse", words[::-1])])


def slow_logits(
    state: dict[str, Tensor], options: dict[str, Any], maps: Tensor, asked: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Logits of one photo's maps (F, u, v) and one question's vector, and the glimpses' shares."""

    def linear(name: str, x: Tensor) -> Tensor:
        return state[f"{name}.weight"].flatten(1) @ x + state[f"{name}.bias"]

    def act(part: str, place: str, x: Tensor) -> Tensor:
        name = options["model"].get(part, {}).get(f"activation{place}")
        return x if name is None else {"tanh": torch.tanh, "relu": torch.relu}[name](x)

    def fused(name: str, part: str, v: Tensor, q: Tensor) -> Tensor:
        if options["model"]["arch"].startswith("MLB"):
            return v * q
        total = torch.zeros(1, dtype=torch.float64)
        for i in range(RANK):
            hv = act(part, "_hv", linear(f"{name}.list_linear_hv.{i}", v))
            total = total + hv * act(part, "_hq", linear(f"{name}.list_linear_hq.{i}", q))
        return act(part, "_mm", total)

    if options["model"]["arch"].endswith("NoAtt"):
        v = act("fusion", "_v", linear("fusion.linear_v", maps.mean((1, 2))))
        q = act("fusion", "_q", linear("fusion.linear_q", asked))
        x = fused("fusion", "fusion", v, q)
        return linear("linear_classif", act("classif", "", x)), None
    q = act("attention", "_q", linear("linear_q_att", asked))
    scores = []
    for cell in maps.flatten(1).T:
        v = act("attention", "_v", linear("conv_v_att", cell))
        mixed = act("attention", "_mm", fused("fusion_att", "attention", v, q))
        scores.append(linear("conv_att", mixed))
    shares = torch.stack(scores).exp()
    shares = shares / shares.sum(0)
    seen = [(maps.flatten(1) * share).sum(1) for share in shares.T]
    v = torch.cat(
        [act("fusion", "_v", linear(f"list_linear_v_fusion.{i}", s)) for i, s in enumerate(seen)]
    )
    q = act("fusion", "_q", linear("linear_q_fusion", asked))
    x = act("classif", "", fused("fusion_classif", "fusion", v, q))
    return linear("linear_classif", x), shares.T.unflatten(1, maps.shape[1:])


def slow(folder: Path, encoder: str, maps: Tensor, tokens: list[int]) -> tuple[Tensor, Any]:
    path = folder / "best_model.pth.tar"
    state = {k: v.double() for k, v in torch.load(path, weights_only=True).items()}
    options = yaml.safe_load((folder / "tiny.yaml").read_text())
    return slow_logits(state, options, maps, slow_question(state, encoder, tokens))


MORE: dict[str, dict[str, Any]] = {
    "as published": {},
    "every activation": {
        "attention": {f"activation_{place}": "tanh" for place in ("hv", "hq", "mm")},
        "fusion": {f"activation_{place}": "relu" for place in ("hv", "mm")},
        "classif": {"activation": "tanh"},
    },
}


@pytest.mark.parametrize("more", MORE)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_equal_slow_loops(tmp_path: Path, architecture: str, more: str) -> None:
    changes = {k: v for k, v in MORE[more].items() if k != "attention" or "No" not in architecture}
    folder = write_checkpoint(tmp_path / "model", architecture, cnn=False, **changes)
    model = loaded(folder)
    maps, questions = features(), [(1, 2, 3, 4), (4, 7, 0, 0)]
    logits = model.decode(FeatureMaps(maps), questions)
    for row, question in enumerate(questions):
        tokens = [token for token in question if token]
        expected, shares = slow(folder, "BayesianUniSkip", maps[row], tokens)
        torch.testing.assert_close(logits[row], expected, rtol=0, atol=1e-12)
        own = model.attention(FeatureMaps(maps[row : row + 1]), question, (96, 128))
        assert (own is None) == (shares is None)
        if own is not None:
            torch.testing.assert_close(own.maps, shares, rtol=0, atol=1e-12)
            assert own.names == ("glimpse 1", "glimpse 2")
            assert own.grid == Grid((3, 4), (0.0, 0.0), (32.0, 32.0))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_question_encoder(tmp_path: Path, encoder: str) -> None:
    folder = write_checkpoint(tmp_path / "model", "MLBAtt", encoder, cnn=False)
    model = loaded(folder)
    assert model.describe()["question encoder"] == encoder
    maps = features(1)
    for question in ((1, 2, 3), (5,), (3, 4, 7, 0, 0)):
        tokens = [token for token in question if token]
        expected, _ = slow(folder, encoder, maps[0], tokens)
        logits = model.decode(FeatureMaps(maps), [question])[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


def test_padding_on_the_left_is_read_in_place_of_the_end(tmp_path: Path) -> None:
    """As many places from the left as there are words: that is what the original selects."""
    changes = {"vqa": {"pad": "left", "maxlength": 4}}
    folder = write_checkpoint(tmp_path / "model", "MLBNoAtt", cnn=False, **changes)
    model = loaded(folder)
    maps = features(1)
    for text, row in (
        ("dog", [0, 0, 0, 4]),
        ("the red dog", [0, 3, 5, 4]),
        ("what is the dog", [1, 2, 3, 4]),
        # Words that do not fit are counted back from the end.
        ("what is the dog red", [2, 3, 4, 1]),
        ("what is the dog red on", [3, 4, 1, 2]),
    ):
        read = model.understand(text).prompt
        assert read == tuple(row)
        expected, _ = slow(folder, "BayesianUniSkip", maps[0], row[: 4 - row.count(0)])
        logits = model.decode(FeatureMaps(maps), [read])[0]
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("layer", "first"), [("layer4", 5), ("layer2", 3)])
@pytest.mark.parametrize("architecture", ["MutanAtt", "MLBNoAtt"])
def test_maps_equal_one_answer_at_a_time(
    tmp_path: Path, architecture: str, layer: str, first: int
) -> None:
    folder = write_checkpoint(tmp_path / "model", architecture)
    model = loaded(folder, layer)
    pixels, _ = model.prepare(photo())
    cnn = folder / CNN
    encoded = encode(model, pixels[None].double())
    expected_maps = slow_stages(cnn, pixels[None].double(), last=first - 1)
    torch.testing.assert_close(encoded.maps, expected_maps, rtol=0, atol=1e-10)
    question = model.understand("What is the dog on?")
    reading = model.read(question)
    scores, maps = explain_at_layer(model, encoded, units(reading), methods.get("grad-cam"))
    for k in range(len(ANSWERS)):
        a = expected_maps.clone().requires_grad_()
        logits, _ = slow(folder, "BayesianUniSkip", slow_stages(cnn, a, first)[0], [1, 2, 3, 4, 6])
        (gradient,) = torch.autograd.grad(logits[k], a)
        cam = (gradient[0].mean((1, 2))[:, None, None] * a[0]).sum(0).clamp(min=0)
        torch.testing.assert_close(maps[k].double(), cam.detach(), rtol=1e-5, atol=1e-9)
        assert float(scores[k]) == pytest.approx(logits[k].item(), abs=1e-6)
    assert maps.amax() > 0


def test_a_photo_is_explained_with_the_models_own_glimpses(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    explanation = vlcam.explain(folder, photo(), question="Is the cat red?", top=2)
    assert len(explanation.answers) == 2 and explanation.unknown == ("cat",)
    assert explanation.attention is not None
    assert [look.text for look in explanation.attention.looks] == ["glimpse 1", "glimpse 2"]
    assert explanation.attention.grid == explanation.grid
    sums = explanation.attention.maps.sum((1, 2))
    torch.testing.assert_close(sums, torch.ones(GLIMPSES))
    behind = vlcam.explain(vlcam.load(folder, "layer1"), photo(), question="Is the cat red?")
    assert behind.attention is not None and behind.maps.shape[1:] == (16, 16)
    torch.testing.assert_close(behind.attention.maps, explanation.attention.maps)
    assert behind.attention.grid == explanation.grid


@pytest.mark.parametrize("size", [(80, 61), (61, 80), (64, 64), (301, 99), (20, 31)])
def test_preprocessing_is_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels, _ = loaded(write_checkpoint(tmp_path / "model")).prepare(photo(*size))
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    steps = (transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor())
    expected = transforms.Compose([*steps, transforms.Normalize(mean, std)])(photo(*size))
    assert torch.equal(pixels, expected)


def test_other_sizes_of_photos(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "model"), size=(128, 96))
    assert model.prepare(photo())[0].shape == (3, 128, 96)
    explanation = vlcam.explain(model, photo(), question="is the dog red")
    assert explanation.maps.shape[1:] == (4, 3)


def test_cells_of_each_layer(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    for layer, stride in (("layer1", 4), ("layer2", 8), ("layer3", 16), ("layer4", 32)):
        grid = vlcam.load(folder, layer).grid((448, 448))
        assert grid == Grid((448 // stride,) * 2, (0.0, 0.0), (stride, stride))
    (folder / CNN).unlink()
    assert vlcam.load(folder).grid((448, 448)) == grid


def test_without_cnn_photos_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", cnn=False)
    with pytest.raises(ValueError, match=r"no CNN to see photos with; the weights of fbresnet152"):
        vlcam.explain(folder, photo(), question="is the dog red")
    with pytest.raises(ValueError, match="no CNN to see photos with"):
        vlcam.load(folder, "layer3")
