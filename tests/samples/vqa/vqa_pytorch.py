"""vqa.pytorch's experiments: options, vocabularies, weights and a CNN."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor

import vlcam
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
