"""NeuralTalk: one step after the other, its search and its folder."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from captioning.models.neuraltalk.neuraltalk import (
    Config,
    NeuralTalk,
    NeuralTalkCaptioner,
    load_module,
    save_module,
)
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import Target, Term
from vlcam.formats.vocabulary import Vocabulary
from vlcam.photo.preprocess import Preprocess


def _captioner() -> NeuralTalk:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("a", "dog", "UNK"))
    return NeuralTalk(
        Config(
            cnn="small",
            vocabulary=vocabulary,
            preprocess=Preprocess(size=(32, 32)),
            embedding=8,
            hidden=16,
        )
    ).eval()


def test_teacher_forcing_equals_stepping() -> None:
    model = _captioner()
    feature, tokens = torch.randn(1, 256), torch.tensor([[1, 2]])
    forced = model(feature, tokens).log_softmax(-1)
    state: tuple[Tensor, ...] = model.start(feature)
    for i, token in enumerate((0, 1, 2)):
        stepped, state = model.step(torch.tensor([token]), state)
        torch.testing.assert_close(stepped, forced[:, i])


@pytest.mark.parametrize("beams", [1, 3])
def test_scores_of_its_own_caption_sum_to_the_searchs(beams: int) -> None:
    """Teacher forcing gives what the search gave, the end included."""
    model = _captioner().double()
    torch.nn.init.normal_(model.logits.weight)
    torch.nn.init.normal_(model.logits.bias, std=2)
    with torch.no_grad():
        model.logits.bias[0] = -1.0  # so that not all captions end at once
    adapter = NeuralTalkCaptioner(model, "own")
    lengths = set()
    for seed in range(4):
        pixels = torch.randn(
            1, 3, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        features = encode(adapter, 3 * pixels)
        (caption,) = model.write(model.encoder(3 * pixels), beams)
        ended = (*caption.tokens, 0)
        whole = Target("caption and end", (Term(1.0, ended, tuple(range(len(ended)))),))
        found = float(score(adapter, features, [whole]).detach())
        assert found == pytest.approx(caption.log_probability, abs=1e-9)
        lengths.add(len(ended))
    assert max(lengths) > 1
    random = torch.Generator().manual_seed(0)
    maps = 30 * torch.randn(6, 1, 256, 2, 2, generator=random, dtype=torch.float64)
    each = [FeatureMaps(one) for one in maps]
    with torch.no_grad():
        together = adapter.generate_all(each, beams)
        assert together == [adapter.generate(one, beams) for one in each]
    assert len({tuple(words) for words in together}) > 1


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("unfinished", "a", "unfinished is 'a', expected a list of texts"),
        ("unfinished", {"a": 1}, "unfinished is a dictionary of 1, expected a list of texts"),
        ("unfinished", 5, "unfinished is 5, expected a list of texts"),
        ("unfinished", [""], "one of unfinished is '', expected words"),
        ("unfinished", ["a zebra"], "'zebra' is not in the vocabulary"),
        ("beams", True, "beams is True, expected a whole number"),
        ("beams", 10**9, "beams is 1000000000, expected a whole number in 1..100"),
        ("beams", 0, "beams is 0, expected a whole number of at least 1"),
        ("length_power", 400, "length_power is 400, expected a number in 0..10"),
        ("length_power", -1, "length_power is -1, expected a number in 0..10"),
    ],
)
def test_how_it_writes_is_checked(tmp_path: Path, name: str, value: object, said: str) -> None:
    save_module(_captioner(), tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {name: value}))
    with pytest.raises(ValueError, match=re.escape(said)) as told:
        load_module(tmp_path)
    assert str(config) in str(told.value) and "\n" not in str(told.value)


def test_saved_captioners_come_back_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    model = _captioner()
    save_module(model, tmp_path)
    again = load_module(tmp_path)
    assert again.config == model.config
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_module(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text('{"architecture": "other"}')
    with pytest.raises(ValueError, match="architecture is 'other'"):
        load_module(tmp_path)
