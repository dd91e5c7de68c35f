"""Cadene's vqa.pytorch: tiny checkpoints in its layout against plain loops over numbers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision import transforms

import vlcam
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.geometry.grid import Grid
from vqa.models.vqa_pytorch import files as vqa_pytorch
from vqa.models.vqa_pytorch.fusion import WithAttention
from vqa.models.vqa_pytorch.model import VqaPyTorch

WORDS = ["what", "is", "the", "dog", "red", "on", "UNK"]
ANSWERS = ["yes", "no", "red and yellow", "2"]
ARCHITECTURES = ("MLBNoAtt", "MLBAtt", "MutanNoAtt", "MutanAtt")
ENCODERS = ("BayesianUniSkip", "UniSkip", "DropUniSkip", "BiSkip", "2-lstm")
CHANNELS, EMBEDDING, HIDDEN, MIXED, GLIMPSES, RANK = 8, 5, 6, 7, 2, 3
SIZE = 64
MODEL, CNN = "best_model.pth.tar", "fbresnet152-2e20f6b4.pth"


def write_checkpoint(
    folder: Path,
    architecture: str = "MutanAtt",
    encoder: str = "BayesianUniSkip",
    cnn: bool = True,
    seed: int = 0,
    name: str = "best_model.pth.tar",
    **changes: Any,
) -> Path:
    """A random model as the project's training script saves one, with all that belongs to it.

    Args:
        changes: of options, by section: ``vqa={"nlp": "nltk"}``.
    """
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.7

    state = {"seq2vec.embedding.weight": random(len(WORDS) + 1, EMBEDDING) * 2}
    state["seq2vec.embedding.weight"][0] = 0
    size = question_weights(encoder, random, state)
    fusion_weights(architecture, size, random, state)
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / name)
    if cnn:
        torch.save(fbresnet(random), folder / CNN)
    numbered = dict(enumerate(WORDS, 1))
    for file, data in {
        "wid_to_word": numbered,
        "word_to_wid": {word: i for i, word in numbered.items()},
        "aid_to_ans": ANSWERS,
        "ans_to_aid": {answer: i for i, answer in enumerate(ANSWERS)},
    }.items():
        (folder / f"{file}.pickle").write_bytes(pickle.dumps(data))
    options = options_of(architecture, encoder)
    for section, values in changes.items():
        part = options["model"] if section in ("attention", "fusion", "classif") else options
        part[section] |= values
    (folder / "tiny.yaml").write_text(yaml.dump(options))
    (folder / "args.yaml").write_text(yaml.dump({"path_opt": "tiny.yaml", "arch": None}))
    return folder


def options_of(architecture: str, encoder: str) -> dict[str, Any]:
    tanh = {"activation_v": "tanh", "activation_q": "tanh"}
    mlb = architecture.startswith("MLB")
    model: dict[str, Any] = {
        "arch": architecture,
        "seq2vec": {"arch": "skipthoughts", "type": encoder},
        "fusion": {**tanh, "dropout_v": 0.5},
        "classif": {"dropout": 0.5} | ({"activation": "tanh"} if mlb else {}),
    }
    if not architecture.endswith("NoAtt"):
        model["attention"] = {**tanh, "nb_glimpses": GLIMPSES}
        model["attention"] |= {"activation_mm": "tanh"} if mlb else {}
    return {
        "model": model,
        "vqa": {"nlp": "mcb", "maxlength": 26, "pad": "right"},
        "coco": {"arch": "fbresnet152", "size": SIZE},
    }


def question_weights(encoder: str, random: Any, state: dict[str, Tensor]) -> int:
    """The weights of the question's encoder, and the size of its vectors."""
    rnn = "seq2vec.rnn"
    if encoder == "BayesianUniSkip":
        for gate in "rin":
            state[f"{rnn}.gru_cell.weight_i{gate}.weight"] = random(HIDDEN, EMBEDDING)
            state[f"{rnn}.gru_cell.weight_i{gate}.bias"] = random(HIDDEN)
            state[f"{rnn}.gru_cell.weight_h{gate}.weight"] = random(HIDDEN, HIDDEN)
        return HIDDEN
    places = {
        "UniSkip": [(f"{rnn}.%s_l0", 3, EMBEDDING)],
        "DropUniSkip": [(f"{rnn}.%s", 3, EMBEDDING)],
        "BiSkip": [(f"{rnn}.%s_l0", 3, EMBEDDING), (f"{rnn}.%s_l0_reverse", 3, EMBEDDING)],
        "2-lstm": [(f"{rnn}_0.%s_l0", 4, EMBEDDING), (f"{rnn}_1.%s_l0", 4, HIDDEN)],
    }[encoder]
    for place, gates, inputs in places:
        for what, width in (("ih", inputs), ("hh", HIDDEN)):
            state[place % f"weight_{what}"] = random(gates * HIDDEN, width)
            state[place % f"bias_{what}"] = random(gates * HIDDEN)
    return len(places) * HIDDEN


def fusion_weights(architecture: str, size: int, random: Any, state: dict[str, Tensor]) -> None:
    def linear(name: str, out: int, inputs: int, *kernel: int) -> None:
        state[f"{name}.weight"] = random(out, inputs, *kernel)
        state[f"{name}.bias"] = random(out)

    def products(name: str, image: int, question: int, out: int) -> None:
        for i in range(RANK):
            linear(f"{name}.list_linear_hv.{i}", out, image)
            linear(f"{name}.list_linear_hq.{i}", out, question)

    mutan = architecture.startswith("Mutan")
    if architecture.endswith("NoAtt"):
        image, asked = (4, 3) if mutan else (MIXED, MIXED)
        linear("fusion.linear_v", image, CHANNELS)
        linear("fusion.linear_q", asked, size)
        if mutan:
            products("fusion", image, asked, MIXED)
        linear("linear_classif", len(ANSWERS), MIXED)
        return
    image, asked = (4, 3) if mutan else (MIXED, MIXED)
    linear("conv_v_att", image, CHANNELS, 1, 1)
    linear("linear_q_att", asked, size)
    linear("conv_att", GLIMPSES, MIXED, 1, 1)
    for i in range(GLIMPSES):
        linear(f"list_linear_v_fusion.{i}", 5, CHANNELS)
    fused = 9 if mutan else GLIMPSES * 5
    if mutan:
        products("fusion_att", image, asked, MIXED)
        products("fusion_classif", GLIMPSES * 5, 6, fused)
    linear("linear_q_fusion", 6 if mutan else fused, size)
    linear("linear_classif", len(ANSWERS), fused)


def fbresnet(random: Any, bias: bool = True) -> dict[str, Tensor]:
    """Bottlenecks (1, 2, 1, 1) in the names of pretrained-models.pytorch."""
    state = {}

    def convolution(conv: str, norm: str, out: int, inputs: int, size: int) -> None:
        state[f"{conv}.weight"] = random(out, inputs, size, size) / (inputs * size * size) ** 0.5
        if bias:
            state[f"{conv}.bias"] = random(out) * 0.3
        state[f"{norm}.weight"] = random(out).abs() + 0.5
        state[f"{norm}.bias"] = random(out) * 0.2
        state[f"{norm}.running_mean"] = random(out) * 0.1
        state[f"{norm}.running_var"] = random(out).abs() + 0.5

    convolution("conv1", "bn1", 4, 3, 7)
    inputs = 4
    for stage, blocks in enumerate((1, 2, 1, 1), 1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            convolution(f"{name}.conv1", f"{name}.bn1", 2, inputs, 1)
            convolution(f"{name}.conv2", f"{name}.bn2", 2, 2, 3)
            convolution(f"{name}.conv3", f"{name}.bn3", CHANNELS, 2, 1)
            if block == 0:
                convolution(f"{name}.downsample.0", f"{name}.downsample.1", CHANNELS, inputs, 1)
            inputs = CHANNELS
    state["last_linear.weight"], state["last_linear.bias"] = random(3, CHANNELS), random(3)
    return state


# --- slow and obvious


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


def loaded(path: Path, layer: str | None = None) -> VqaPyTorch:
    model = vlcam.load(path, layer)
    assert isinstance(model, VqaPyTorch)
    model.module.double()
    return model


def features(rows: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(rows, CHANNELS, 3, 4, generator=generator, dtype=torch.float64).relu()


def photo(width: int = 80, height: int = 61) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


# --- scores


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


# --- questions


@pytest.mark.parametrize(
    ("tokenizer", "question", "tokens", "unknown"),
    [
        ("mcb", "What is the Red/dog-on?", (1, 2, 3, 5, 4, 6), ()),
        ("mcb", "the dog's cat, cat.", (3, 7, 7, 7), ("dogs", "cat")),
        ("nltk", "The dog's red?", (3, 4, 7, 5, 7), ("'s", "?")),
        ("naive", "The dog-red?", (7, 4, 7, 5, 7), ("The", "-", "?")),
        ("split", "the dog", (3, 4), ()),  # whatever is neither of the first two
    ],
)
def test_questions_are_taken_apart_as_in_training(
    tmp_path: Path, tokenizer: str, question: str, tokens: tuple[int, ...], unknown: tuple[str, ...]
) -> None:
    folder = write_checkpoint(tmp_path / "model", cnn=False, vqa={"nlp": tokenizer})
    read = loaded(folder).understand(question)
    assert read.prompt == tokens and read.unknown == unknown and read.text == question


def test_questions_that_cannot_be_read(tmp_path: Path) -> None:
    model = loaded(write_checkpoint(tmp_path / "model", cnn=False, vqa={"maxlength": 3}))
    cut = model.understand("What is the dog on?")
    assert cut.prompt == (1, 2, 3) and cut.text == "what is the"
    with pytest.raises(ValueError, match="has no word"):
        model.understand("?!")
    with pytest.raises(ValueError, match="knows no word of the question: cat, mouse"):
        model.understand("cat mouse")


# --- photos


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


# --- files


def test_the_best_model_is_taken_then_the_latest(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    order = [
        "best_model.pth.tar",
        "ckpt_model.pth.tar",
        "ckpt_epoch,12_model.pth.tar",
        "ckpt_epoch,9_model.pth.tar",
    ]
    weights = []
    for seed, name in enumerate(order):
        write_checkpoint(folder, name=name, seed=seed)
        weights.append(torch.load(folder / name, weights_only=True)["linear_classif.bias"])
    torch.save({"epoch": 1}, folder / "best_info.pth.tar")
    given = vlcam.load(folder / order[2])
    assert torch.equal(given.module.answerer.linear_classif.bias, weights[2])  # type: ignore
    for name, expected in zip(order, weights, strict=True):
        for path in (folder, folder / "tiny.yaml", folder / "aid_to_ans.pickle"):
            model = vlcam.load(path)
            assert isinstance(model, VqaPyTorch)
            assert torch.equal(model.module.answerer.linear_classif.bias, expected)
        (folder / name).unlink()


def test_other_names_old_files_and_half_precision(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    state = torch.load(folder / "best_model.pth.tar", weights_only=True)
    (folder / "best_model.pth.tar").unlink()
    parallel = {f"module.{name}": value.half() for name, value in state.items()}
    torch.save(parallel, folder / "mutan.pth", _use_new_zipfile_serialization=False)
    model = vlcam.load(folder)
    assert isinstance(model, VqaPyTorch)
    assert model.module.answerer.linear_classif.weight.dtype == torch.float32
    assert vqa_pytorch.recognises(folder / "mutan.pth")
    assert not vqa_pytorch.recognises(folder / CNN)
    pixels = model.prepare(photo())[0][None]
    before = encode(model, pixels).maps
    cnn = torch.load(folder / CNN, weights_only=True)
    (folder / CNN).unlink()
    save_file(cnn, folder / "fbresnet152.safetensors")
    assert torch.equal(encode(vlcam.load(folder), pixels).maps, before)


def test_without_options_they_are_as_published(tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        folder = write_checkpoint(tmp_path / architecture, architecture, cnn=False)
        told = loaded(folder)
        (folder / "tiny.yaml").rename(folder / "tiny.txt")
        for file in ("word_to_wid.pickle", "aid_to_ans.pickle"):
            (folder / file).unlink()
        model = loaded(folder)
        assert model.config.activations == told.config.activations
        assert model.config.preprocess.size == (448, 448)
        asked = (1, 2, 3)
        maps = FeatureMaps(features(1))
        assert torch.equal(model.decode(maps, [asked]), told.decode(maps, [asked]))
        assert told.describe()["assumed as published"] == []
        assert "model.fusion.activation" in model.describe()["assumed as published"]
        # The training's log repeats them.
        options = yaml.safe_load((folder / "tiny.txt").read_text())
        (folder / "logger.json").write_text(json.dumps({"name": "x", "options": options}))
        assert loaded(folder).config == told.config


@pytest.mark.parametrize("cnn", [True, False])
@pytest.mark.parametrize("architecture", ["MutanAtt", "MLBNoAtt"])
def test_saved_and_loaded_again(tmp_path: Path, architecture: str, cnn: bool) -> None:
    encoder = "BayesianUniSkip" if cnn else "BiSkip"
    changes = {
        "vqa": {"nlp": "nltk", "pad": "left", "maxlength": 7},
        "fusion": {"activation_v": "relu"},
    }
    model = vlcam.load(write_checkpoint(tmp_path / "one", architecture, encoder, cnn, **changes))
    assert isinstance(model, VqaPyTorch)
    model.save(tmp_path / "two")
    assert {f.name for f in (tmp_path / "two").iterdir()} == {"config.json", "model.safetensors"}
    again = vlcam.load(tmp_path / "two")
    assert isinstance(again, VqaPyTorch)
    assert again.config == model.config and again.describe() == model.describe()
    state = model.module.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in again.module.state_dict().items())
    maps = FeatureMaps(features(1).float())
    question = again.understand("is the dog red").prompt
    assert torch.equal(model.decode(maps, [question]), again.decode(maps, [question]))
    if cnn:
        pixels = again.prepare(photo())[0][None]
        assert torch.equal(encode(model, pixels).maps, encode(again, pixels).maps)


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _state(file: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = torch.load(folder / file, weights_only=True)
        change(state)
        torch.save(state, folder / file)

    return apply


def _cut(file: str, length: int) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:length])


def _pickle(file: str, data: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / file).write_bytes(pickle.dumps(data))


def _options(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: write_checkpoint(folder, **changes) and None


def _add(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


PROBLEMS: dict[str, Callable[[Path], Any]] = {
    "missing linear_q_att.bias": _state(MODEL, lambda s: s.pop("linear_q_att.bias")),
    "no matrix linear_classif.weight": _state(MODEL, lambda s: s.pop("linear_classif.weight")),
    "no matrix seq2vec.rnn.gru_cell.weight_hr": _state(
        MODEL, lambda s: s.pop("seq2vec.rnn.gru_cell.weight_hr.weight")
    ),
    "unexpected x0, x1, x2 and 2 more": _state(
        MODEL, lambda s: s.update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    "linear_q_fusion.weight has shape (6, 5)": _state(
        MODEL, lambda s: s.update({"linear_q_fusion.weight": torch.zeros(6, 5)})
    ),
    "not finite": _state(MODEL, lambda s: s["conv_att.bias"].fill_(torch.nan)),
    "best_model.pth.tar: damaged": _cut(MODEL, 3000),
    "it asks for": lambda f: torch.save({"a": _Evil(f / "ran")}, f / MODEL),
    "7 words, but weights for 8": _state(
        MODEL, lambda s: s.update({"seq2vec.embedding.weight": torch.zeros(9, EMBEDDING)})
    ),
    "channels of the CNN, but weights for 8": lambda f: torch.save(
        fbresnet_of_other_width(), f / CNN
    ),
    "no best_model.pth.tar": lambda f: (f / MODEL).unlink(),
    "wid_to_word.pickle and word_to_wid.pickle do not agree": _pickle(
        "word_to_wid.pickle", {w: i for i, w in enumerate(reversed(WORDS), 1)}
    ),
    "wid_to_word.pickle: expected texts numbered from 1": _pickle(
        "wid_to_word.pickle", dict(enumerate(WORDS))
    ),
    "aid_to_ans.pickle: expected texts numbered from 0": _pickle("aid_to_ans.pickle", [1, 2]),
    "ans_to_aid.pickle: damaged": _cut("ans_to_aid.pickle", 20),
    "only plain data": lambda f: _pickle("wid_to_word.pickle", _Evil(f / "ran"))(f),
    "no aid_to_ans.pickle (nor ans_to_aid.pickle)": lambda f: [
        (f / name).unlink() for name in ("aid_to_ans.pickle", "ans_to_aid.pickle")
    ],
    "tiny.yaml: not plain YAML": _add("tiny.yaml", "model: [1"),
    "not plain YAML (could not determine": _add("evil.yaml", "a: !!python/name:os.system"),
    "tiny.yaml: model.arch is 'MLBAtt'": lambda f: (f / "tiny.yaml").write_text(
        (f / "tiny.yaml").read_text().replace("MutanAtt", "MLBAtt")
    ),
    "have other options": _add("other.yaml", "model: {arch: MutanAtt}"),
    "fusion is no section": lambda f: (f / "tiny.yaml").write_text("model: {fusion: 3}"),
    "activation 'softmax' of fusion.v": _options(fusion={"activation_v": "softmax"}),
    "longest is 'x'": _options(vqa={"maxlength": "x"}),
    "must be two whole numbers": _options(coco={"size": "big"}),
    "logger.json: not a log": _add("logger.json", "{}"),
    "expected one file of the CNN's weights": _add("other.pth", ""),
    "fbresnet152-2e20f6b4.pth: damaged": _cut(CNN, 3000),
    "not the weights of a ResNet: missing 5.1.conv2.bias": _state(
        CNN, lambda s: s.pop("layer2.1.conv2.bias")
    ),
    "convolutions without biases, so it is not fbresnet152": lambda f: torch.save(
        fbresnet(lambda *shape: torch.ones(shape), bias=False), f / CNN
    ),
}  # fmt: skip


def fbresnet_of_other_width() -> dict[str, Tensor]:
    state = fbresnet(lambda *shape: torch.ones(shape))
    for name in ("conv3", "downsample.0"):
        key = f"layer4.0.{name}.weight"
        state[key] = torch.ones(9, *state[key].shape[1:])
        state[f"layer4.0.{name}.bias"] = torch.ones(9)
    for name in ("bn3", "downsample.1"):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            state[f"layer4.0.{name}.{kind}"] = torch.ones(9)
    return state


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = write_checkpoint(tmp_path / "bad")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    assert not (folder / "ran").exists()


def test_a_damaged_model_of_ours(tmp_path: Path) -> None:
    vlcam.load(write_checkpoint(tmp_path / "one")).save(tmp_path / "two")
    config = tmp_path / "two" / "config.json"
    for change, message in (
        ({"answers": ["yes"]}, "1 answers, but weights for 4"),
        ({"words": ["yes", "yes"]}, "words: one occurs twice"),
        ({"tokenizer": "x"}, "tokenizer 'x' is none of mcb, nltk, naive"),
        ({"activations": {"fusion.v": "exit"}}, "activation 'exit'"),
        ({"longest": 0}, "longest is 0"),
    ):
        before = config.read_text()
        config.write_text(json.dumps(json.loads(before) | change))
        with pytest.raises(ValueError, match=message) as error:
            vlcam.load(tmp_path / "two")
        assert "config.json" in str(error.value)
        config.write_text(before)


def test_unknown_layers_and_foreign_folders(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match="no layer '7'; known: layer1, layer2, layer3, layer4"):
        vlcam.load(folder, "7")
    other = tmp_path / "other"
    other.mkdir()
    torch.save({"conv_att.weight": torch.zeros(1)}, other / "model.pth.tar")
    (other / "vocab.pickle").write_bytes(b"")
    assert not vqa_pytorch.recognises(other)
    assert not vqa_pytorch.recognises(other / "vocab.pickle")
    assert isinstance(vlcam.load(folder).module.answerer, WithAttention)
