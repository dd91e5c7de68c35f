"""Co-attention against its equations written out, for one question at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.models import get_model

import vlcam
from tests.samples.adapters import ADAPTERS
from tests.samples.families.case import Case
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import unit
from vlcam.formats import checkpoint
from vlcam.formats.vocabulary import Vocabulary
from vlcam.networks.encoder import Encoder, RegionEncoder
from vqa.models.coattention.model import (
    LEVELS,
    Alternating,
    CoAttention,
    CoAttentionAnswerer,
    Config,
    Parallel,
)

WORDS = Vocabulary(("is", "it", "what", "UNK"))
BOTH = ("coattention", "coattention-parallel")


@pytest.fixture(params=BOTH)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return ADAPTERS[request.param](tmp_path)


def by_hand(model: Any, regions: Tensor, tokens: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Logits and each level's attention to the regions (R, F), by the paper's section 3."""
    image = model.image(regions).tanh()
    words = [model.embed_word.weight[token].tanh() for token in tokens]
    zero = torch.zeros_like(words[0])
    phrases = []
    for t, word in enumerate(words):
        before = words[t - 1] if t else zero
        after = words[t + 1] if t + 1 < len(words) else zero
        grams = []
        for conv, window in (
            (model.unigram, [word]),
            (model.bigram, [before, word]),
            (model.trigram, [before, word, after]),
        ):
            steps = [conv.weight[:, :, k] @ x for k, x in enumerate(window)]
            grams.append(torch.stack(steps).sum(0) + conv.bias)
        phrases.append(torch.stack(grams).amax(0).tanh())
    read = {"word": torch.stack(words), "phrase": torch.stack(phrases)}
    read["question"] = model.rnn(read["phrase"][None])[0][0]
    looked, below = [], None
    for level in LEVELS:
        part = model.attend[level]
        attend = alternating if isinstance(part, Alternating) else parallel
        question, seen, where = attend(part, read[level], image)
        looked.append(where)
        joined = question + seen
        if below is not None:
            joined = torch.cat([joined, below])
        below = model.fuse[level](joined).tanh()
    return model.answer(below), looked


def alternating(part: Alternating, words: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    first = part.summary_score(part.summary(words).tanh())[:, 0].softmax(0) @ words
    scores = part.image_score((part.image(image) + part.question_to_image(first)).tanh())
    where = scores[:, 0].softmax(0)
    seen = where @ image
    scores = part.question_score((part.question(words) + part.image_to_question(seen)).tanh())
    return scores[:, 0].softmax(0) @ words, seen, where


def parallel(part: Parallel, words: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    affinity = (words @ part.affinity(image).T).tanh()
    about = (part.image(image) + affinity.T @ part.question(words)).tanh()
    where = part.image_score(about)[:, 0].softmax(0)
    read = part.question_score((part.question(words) + affinity @ part.image(image)).tanh())
    return read[:, 0].softmax(0) @ words, where @ image, where


def test_the_equations(case: Case) -> None:
    model: Any = case.adapter.module
    features = encode(case.adapter, case.pixels)
    regions = model.encoder(case.pixels)[0].unflatten(0, (256, -1)).T
    for reading in (case.long, case.short):
        prompt: Any = reading.prompt
        with torch.no_grad():
            logits, looked = by_hand(model, regions, list(prompt))
            found = case.adapter.decode(features, [prompt])[0]
            attention = case.adapter.attention(features, prompt, (32, 32))
        torch.testing.assert_close(found, logits, rtol=1e-10, atol=1e-12)
        assert attention is not None and attention.names == LEVELS
        torch.testing.assert_close(attention.maps.flatten(1), torch.stack(looked))
        assert float(torch.stack(looked).std(1).min()) > 1e-6  # not indifferent


def test_a_shorter_question_beside_a_longer_one(case: Case) -> None:
    """Padding changes nothing, neither in the answers nor where it is looked."""
    model: Any = case.adapter.module
    feature = model.encoder(case.pixels).repeat(2, 1)
    both = [case.long.prompt, case.short.prompt]
    with torch.no_grad():
        together = model(feature, model.encode_question(both))
        for row, prompt in enumerate(both):
            alone = model(feature[:1], model.encode_question([prompt]))
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-10, atol=1e-12)


def test_own_attention_lies_where_the_regions_lie() -> None:
    """Wherever the model is cut; and a score's value does not depend on the cut."""
    model = CoAttention(
        Config("resnet18", WORDS, ("yes", "no"), vlcam.Preprocess(size=(64, 64)))
    ).eval()
    pixels = torch.randn(1, 3, 64, 64)
    values, maps = [], []
    for layer in ("layer1", "layer3", "layer4"):
        adapter = CoAttentionAnswerer(model, "m", layer)
        features = encode(adapter, pixels)
        asked = adapter.read(adapter.understand("what is it"), ["yes"])
        values.append(score(adapter, features, [unit(asked, asked.units[0], "logit")]))
        with torch.no_grad():
            attention = adapter.attention(features, asked.prompt, (64, 64))
        whole = CoAttentionAnswerer(model, "m").grid((64, 64))
        assert attention is not None and attention.grid == whole
        maps.append(attention.maps)
    for other in (1, 2):
        torch.testing.assert_close(values[other], values[0])
        torch.testing.assert_close(maps[other], maps[0])
    assert maps[0].shape == (3, 2, 2)
    torch.testing.assert_close(maps[0].sum((1, 2)), torch.ones(3))


@pytest.mark.parametrize(
    ("name", "regions"), [("alexnet", "features.12"), ("resnet18", "layer4"), ("small", "stage4")]
)
def test_regions_are_the_last_feature_maps(name: str, regions: str, tmp_path: Path) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        encoder = RegionEncoder(name, (64, 64)).eval()
        whole = Encoder(name, (64, 64)).eval()
    assert encoder.regions.name == regions == encoder.layers[-1].name
    if name != "small":  # weights of a whole network are taken, and no others
        full = get_model(name, weights=None).state_dict()
        torch.save(full, tmp_path / "w.pth")
        encoder.load_weights(tmp_path / "w.pth")
        whole.load_weights(tmp_path / "w.pth")
        assert not any(key.startswith(("classifier", "fc")) for key in encoder.net.state_dict())
        torch.save(full | {"more": torch.ones(1)}, tmp_path / "w.pth")
        with pytest.raises(ValueError, match="unexpected more"):
            encoder.load_weights(tmp_path / "w.pth")
    else:
        whole.load_state_dict(encoder.state_dict())
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = whole.split(regions)[0](pixels).flatten(1)
        assert expected.shape[1] == encoder.feature_size
        torch.testing.assert_close(encoder(pixels), expected)
        for layer in {encoder.layers[0].name, encoder.default_layer, regions}:
            before, after = encoder.split(layer)
            torch.testing.assert_close(after(before(pixels)), expected)


def test_what_cannot_be(tmp_path: Path) -> None:
    small = vlcam.Preprocess(size=(32, 32))
    for wrong, said in (
        ({"attention": "stacked"}, "attention is 'stacked', expected alternating or parallel"),
        ({"hidden": 0}, "hidden is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            Config("small", WORDS, ("yes",), small, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer 'stage9' of small: unknown; did you mean stage"):
        CoAttention(Config("small", WORDS, ("yes",), small, regions="stage9"))


def test_saved_and_loaded_by_name_of_its_folder(case: Case, tmp_path: Path) -> None:
    model: Any = case.adapter.module
    checkpoint.save_folder(model.float(), model.config.to_json(), tmp_path / "mine")
    loaded = vlcam.load(tmp_path / "mine", "stage2")
    assert loaded.name == "mine" and loaded.describe()["cnn"] == "small"
    state = loaded.module.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not loaded.module.training


def test_it_stands_beside_the_answers(case: Case, tmp_path: Path) -> None:
    """In the explanation, its files, its figure and its page."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8))
    adapter: Any = case.adapter
    adapter.module.float()
    explanation = vlcam.explain(adapter, image, question="what is the red dog", top=2)
    own = explanation.attention
    assert own is not None and [look.text for look in own.looks] == list(LEVELS)
    assert own.maps.shape == (3, 2, 2) and own.maps.dtype == torch.float32
    torch.testing.assert_close(own.maps.sum((1, 2)), torch.ones(3))
    for index, look in enumerate(own.looks):
        drawn = explanation.photo_map(2 + index)
        assert drawn[look.peak[1], look.peak[0]] == drawn.max()
    explanation.save(tmp_path / "saved")
    again = vlcam.Explanation.load(tmp_path / "saved")
    assert again.attention is not None and again.attention.looks == own.looks
    assert torch.equal(again.attention.maps, own.maps) and again.attention.grid == own.grid
    assert [drawn.shape for drawn in again.photo_maps()] == 5 * [(24, 40)]
    page = again.html()
    assert page.count('<button type="button" class="word') == 5
    assert page.count("the model&#x27;s own attention") == 3
    drawn_texts = [text.get_text() for text in again.figure().texts]
    assert drawn_texts.count("attention") == 3 and set(LEVELS) <= set(drawn_texts)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: a["looks"].pop(), "does not fit"),
        (lambda a: a["looks"][0].update(logit=1), "look with"),
        (lambda a: a["looks"][0].update(peak=[99, 0]), "no pixel of the photo"),
        (lambda a: a["grid"].update(stride=[0, 1]), "stride is"),
        (lambda a: a.pop("grid"), "grid"),
    ],
)
def test_a_damaged_attention_is_told_of(
    tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    adapter: Any = ADAPTERS["coattention"](tmp_path).adapter
    adapter.module.float()
    vlcam.explain(adapter, Image.new("RGB", (9, 9), "red"), question="dog").save(tmp_path)
    data = json.loads((tmp_path / "explanation.json").read_text())
    change(data["attention"])
    (tmp_path / "explanation.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="not a saved explanation") as error:
        vlcam.Explanation.load(tmp_path)
    assert said in str(error.value)


def test_no_attention_of_a_model_without(tmp_path: Path) -> None:
    case = ADAPTERS["lstm-cnn"](tmp_path)
    features = encode(case.adapter, case.pixels)
    assert case.adapter.attention(features, case.long.prompt, (32, 32)) is None
