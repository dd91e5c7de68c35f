"""Vocabulary, search, BLEU, data readers, split encoders and saved captioners."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from captioning.data.captions import read_data
from captioning.language.decoding import Search, State, search, search_all
from captioning.models.neuraltalk.neuraltalk import (
    Config,
    NeuralTalk,
    NeuralTalkCaptioner,
    load_module,
    save_module,
)
from captioning.training.bleu import bleu
from captioning.training.reward import NOTHING, Counts, References
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import score
from vlcam.attribution.targets import Target, Term
from vlcam.formats.vocabulary import Vocabulary, words_of
from vlcam.networks.cutting import mean_over_cells
from vlcam.networks.encoder import Encoder
from vlcam.photo.preprocess import Preprocess


def test_words_become_tokens_and_back() -> None:
    vocabulary = Vocabulary.count([words_of("A dog, 2 dogs!"), words_of("a dog")], threshold=2)
    assert vocabulary.words == ("a", "dog", "UNK")
    assert vocabulary.tokens(["a", "kite", "dog"]) == [1, 3, 2]
    assert vocabulary.missing(["kite", "a", "kite"]) == ["kite"]
    assert vocabulary.text([2, 1, 0, 1]) == ["dog", "a"]
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def _table_step(table: Tensor) -> object:
    def step(tokens: Tensor, state: State) -> tuple[Tensor, State]:
        (depth,) = state
        return table[depth[:, 0], tokens].clone(), (depth + torch.tensor([1, 0]),)

    return step


@pytest.mark.parametrize("power", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_wide_beam_search_is_exhaustive_search(seed: int, power: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    table = (2 * torch.randn(4, 4, 4, generator=generator, dtype=torch.float64)).log_softmax(-1)
    scores = {}
    for length in range(4):
        for text in itertools.product((1, 2, 3), repeat=length):
            path = [0, *text, 0]
            total = sum(float(table[i, path[i], path[i + 1]]) for i in range(length + 1))
            scores[text] = (total / (length + 1) ** power, total)
    best = max(scores, key=lambda text: scores[text])
    state = (torch.zeros(2, 2, dtype=torch.long),)
    how = Search(beams=30, max_words=3, length_power=power)
    for caption in search(_table_step(table), state, 2, how):  # type: ignore[arg-type]
        assert caption.tokens == best
        assert caption.log_probability == pytest.approx(scores[best][1])
    ranked = sorted(scores, key=lambda text: scores[text], reverse=True)[:30]
    for captions in search_all(_table_step(table), state, 2, how):  # type: ignore[arg-type]
        assert [caption.tokens for caption in captions] == ranked


def test_greedy_search_takes_the_likeliest_allowed_token() -> None:
    table = torch.zeros(4, 4, 4)
    table[..., 3], table[..., 2], table[2, 2, 0] = 5, 3, 9
    how = Search(max_words=3, forbidden=(3,))
    caption = search(_table_step(table), (torch.zeros(1, 2, dtype=torch.long),), 1, how)[0]  # type: ignore[arg-type]
    assert caption.tokens == (2, 2) and caption.log_probability == 15


def test_bleu_by_hand() -> None:
    same = bleu([["a", "b", "c", "d"]], [[["a", "b", "c", "d"]]])
    assert same == pytest.approx((1, 1, 1, 1))
    # 3 of 4 words and 1 of 3 pairs are right.
    assert bleu([["a", "b", "x", "d"]], [[["a", "b", "c", "d"]]])[:2] == pytest.approx((0.75, 0.5))


def _photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def test_both_layouts_are_read(tmp_path: Path) -> None:
    flickr, coco = tmp_path / "flickr", tmp_path / "coco"
    for name in ("a.jpg", "b.jpg"):
        _photo(flickr / "Images" / name)
        _photo(coco / "images" / name)
    (flickr / "captions.txt").write_text('image,caption\na.jpg,"A dog, here ."\nb.jpg,B\n')
    (flickr / "trainImages.txt").write_text("a.jpg\n")
    (flickr / "valImages.txt").write_text("b.jpg\n")
    splits = read_data(flickr)
    assert splits.train[0].captions == (("a", "dog", "here"),)
    assert [example.photo.name for example in splits.val] == ["b.jpg"]

    (coco / "annotations").mkdir()
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"image_id": i, "caption": "One."} for i in (1, 2)],
    }
    (coco / "annotations" / "captions.json").write_text(json.dumps(data))
    held = read_data(coco)
    assert len(held.train) == len(held.val) == 1 and not held.test
    (coco / "images" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"b\.jpg: no such photo"):
        read_data(coco)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("small", "stage4"), ("mobilenet_v2", "features.18"), ("alexnet", "features.11")],
)
def test_the_two_halves_are_the_whole_encoder(name: str, layer: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(name, (96, 96)).eval()
    assert encoder.default_layer == layer
    before, after = encoder.split()
    pixels = torch.randn(2, 3, 96, 96)
    maps = before(pixels).detach()
    kept = maps.clone()
    torch.testing.assert_close(after(maps), encoder(pixels))
    assert torch.equal(maps, kept)
    assert maps.shape[1:] == encoder.layer().shape


def test_a_copy_of_an_encoder_is_cut_by_itself() -> None:
    encoder = Encoder("small", (64, 64)).eval()
    copied = copy.deepcopy(encoder)
    pixels = torch.randn(1, 3, 64, 64)
    before, after = copied.split()
    assert torch.equal(after(before(pixels)), encoder(pixels))
    with torch.no_grad():
        copied.net.get_parameter("stem.0.weight").zero_()
    assert not torch.equal(after(before(pixels)), encoder(pixels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mean_over_cells_is_poolings_bit_by_bit(dtype: torch.dtype) -> None:
    maps = 500 * torch.randn(3, 7, 14, 9, generator=torch.Generator().manual_seed(0)).abs()
    maps = maps.to(dtype)
    for some in (maps, maps.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(mean_over_cells(some), functional.adaptive_avg_pool2d(some, 1))


def test_behind_a_mean_over_cells_a_gradient_is_one_number_a_channel() -> None:
    _, after = Encoder("small", (64, 64)).eval().split()
    maps = torch.randn(1, 256, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(after(maps), maps, torch.randn(1, 256), retain_graph=True)
    assert gradient.stride()[2:] == (0, 0) and gradient[0, 0, 0, 0] == gradient[0, 0, 3, 2] != 0


def test_an_unknown_layer_is_refused_with_near_ones() -> None:
    with pytest.raises(ValueError, match="stage4"):
        Encoder("small").layer("stage5")


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


def test_what_a_caption_counts_is_what_bleu_counts() -> None:
    rng = np.random.default_rng(0)
    references = [[rng.integers(1, 6, n).tolist() for n in (4, 7, 9)] for _ in range(40)]
    captions = [rng.integers(1, 6, rng.integers(0, 12)).tolist() for _ in range(40)]
    counts = [References(r).count(c) for r, c in zip(references, captions, strict=True)]
    words = [[str(token) for token in caption] for caption in captions]
    theirs = bleu(words, [[[str(t) for t in r] for r in each] for each in references])[3]
    assert sum(counts, NOTHING).bleu() == pytest.approx(theirs)


@pytest.mark.parametrize("short", [False, True])
def test_a_caption_is_rewarded_for_what_it_adds_to_bleu(short: bool) -> None:
    own = Counts((3, 2, 1, 0), (5, 4, 3, 2), 5, 6)
    others = Counts((300, 150, 60, 20), (500, 440, 380, 320), 500, 550 if short else 450)
    share = 1e-6
    more = Counts(
        tuple(a + share * b for a, b in zip(others.matches, own.matches, strict=True)),
        tuple(a + share * b for a, b in zip(others.total, own.total, strict=True)),
        others.length + share * own.length,
        others.reference + share * own.reference,
    )
    slow = (np.log(more.bleu()) - np.log(others.bleu())) / share
    assert own.gain(others, 100) == pytest.approx(100 * slow, rel=1e-3)


def test_a_shorter_caption_is_no_way_to_reward() -> None:
    """Where captions are short of the references, a good long one beats a good short one."""
    references = References([list(range(1, 11))])
    short, long = references.count([1, 2, 3]), references.count(list(range(1, 9)))
    sums = sum([short] * 10, long)
    assert long.gain(sums, 11) > short.gain(sums, 11)
