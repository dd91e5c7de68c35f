"""sgrvinod's Show, Attend and Tell: tiny checkpoints in the published layout against loops."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import vlcam
from captioning.models import show_attend_tell
from captioning.models.show_attend_tell import ShowAttendTell
from tests.samples.captioning.show_attend_tell import (
    CHANNELS,
    CHECKPOINT,
    COUNT,
    EMBED,
    END,
    HIDDEN,
    START,
    WORD_MAP,
    WORDS,
    random_states,
    write_checkpoint,
)
from tests.samples.foreign import slow_resnet
from tests.samples.tiny import photo
from vlcam import Explanation
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer
from vlcam.attribution.targets import units
from vlcam.explanation.page import Section, index
from vlcam.geometry.grid import Grid


def float64(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in state.items()}


def slow_pool(maps: Tensor, side: int) -> Tensor:
    """Means (K, side, side) of maps (K, u, v), cell by cell."""
    pooled = maps.new_zeros(len(maps), side, side)
    for i in range(side):
        for j in range(side):
            (top, bottom), (left, right) = (
                (k * n // side, -(-(k + 1) * n // side))
                for k, n in ((i, maps.shape[1]), (j, maps.shape[2]))
            )
            pooled[:, i, j] = maps[:, top:bottom, left:right].mean((1, 2))
    return pooled


class Slow:
    """One image's caption, step by step, in the plainest terms."""

    def __init__(self, weights: dict[str, Tensor], pooled: Tensor) -> None:
        self.w, self.cells = weights, pooled.flatten(1).T

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def begin(self) -> tuple[Tensor, Tensor]:
        mean = self.cells.mean(0)
        return self.linear("init_h", mean), self.linear("init_c", mean)

    def step(self, token: int, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log-probabilities behind the token, the new state, the attention."""
        of_state = self.linear("attention.decoder_att", h)
        scores = torch.stack(
            [
                self.linear(
                    "attention.full_att",
                    (self.linear("attention.encoder_att", cell) + of_state).clamp(min=0),
                )[0]
                for cell in self.cells
            ]
        )
        alpha = scores.exp() / scores.exp().sum()
        context = sum(a * cell for a, cell in zip(alpha, self.cells, strict=True))
        gated = context / (1 + (-self.linear("f_beta", h)).exp())
        x = torch.cat([self.w["embedding.weight"][token], gated])
        z = self.w["decode_step.weight_ih"] @ x + self.w["decode_step.bias_ih"]
        z = z + self.w["decode_step.weight_hh"] @ h + self.w["decode_step.bias_hh"]
        i, f, g, o = z.split(HIDDEN)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        y = self.linear("fc", h)
        return y - y.exp().sum().log(), h, c, alpha

    def read(self, tokens: list[int]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the tokens (L,), and attention (L, P)."""
        (h, c), last, values, alphas = self.begin(), START, [], []
        for token in tokens:
            row, h, c, alpha = self.step(last, h, c)
            values.append(row[token])
            alphas.append(alpha)
            last = token
        return torch.stack(values), torch.stack(alphas)

    def search(self, beam: int) -> list[int]:
        """Captions that end leave the beam; 51 steps at most."""
        beams = [(0.0, [START], *self.begin())]
        done: list[tuple[float, list[int]]] = []
        for _ in range(51):
            found = []
            for total, tokens, h, c in beams:
                row, h, c, _ = self.step(tokens[-1], h, c)
                found += [(total + float(p), [*tokens, k], h, c) for k, p in enumerate(row)]
            found.sort(key=lambda candidate: -candidate[0])
            best = found[: beam - len(done)]
            done += [(total, tokens) for total, tokens, *_ in best if tokens[-1] == END]
            beams = [one for one in best if one[1][-1] != END]
            if not beams:
                break
        return max(done or [one[:2] for one in beams], key=lambda one: one[0])[1]


def loaded(path: Path, layer: str | None = None) -> ShowAttendTell:
    model = vlcam.load(path, layer)
    assert isinstance(model, ShowAttendTell)
    model.module.double()
    return model


def some_maps(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(1, CHANNELS, 2, 3, generator=generator, dtype=torch.float64)


def test_log_probabilities_and_attention_equal_slow_loops(tmp_path: Path) -> None:
    model = loaded(write_checkpoint(tmp_path / "x", cells=3))
    weights = float64(random_states()[1])
    captions = [[1, 2, 3, 4, 6, 8], [5, 2, 1]]
    maps = torch.cat([some_maps(1), some_maps(2)])
    scores = model.decode(FeatureMaps(maps), [tuple(c) for c in captions])
    for row, tokens in enumerate(captions):
        values, alphas = Slow(weights, slow_pool(maps[row], 3)).read(tokens)
        torch.testing.assert_close(scores[row, : len(tokens)], values, rtol=0, atol=1e-12)
        own = model.attention(FeatureMaps(maps[row : row + 1]), tuple(tokens), (64, 96))
        torch.testing.assert_close(own.maps.flatten(1), alphas, rtol=0, atol=1e-12)
        assert own.names == tuple([*WORDS][token - 1] for token in tokens)
        assert own.maps.std((1, 2)).min() > 0.01  # it does look somewhere


def test_captions_equal_slow_search(tmp_path: Path) -> None:
    written, unended = set(), 0
    for seed, end in ((0, 0.0), (1, -2.0), (2, 1.0), (3, -1.0), (4, -60.0)):
        folder = write_checkpoint(tmp_path / f"{seed}", cells=1 + seed % 2, seed=seed, end=end)
        model = loaded(folder)
        decoder = float64(random_states(seed)[1])
        decoder["fc.bias"][END] += end
        slow = Slow(decoder, slow_pool(some_maps(seed)[0], 1 + seed % 2))
        for beam in (1, 2, 4):
            words = model.generate(FeatureMaps(some_maps(seed)), beam)
            _, *tokens = slow.search(beam)
            unended += END not in tokens
            shown = [t for t in tokens if t not in (0, START, END)]
            assert [word.tokens[0] for word in words] == shown, (seed, beam)
            written.add(tuple(tokens))
    assert len(written) > 4 and unended >= 3


@pytest.mark.parametrize(
    ("layer", "last"), [(None, 7), ("resnet.5", 5), ("resnet.6.0", 6), ("adaptive_pool", 8)]
)
def test_maps_equal_one_word_at_a_time(tmp_path: Path, layer: str | None, last: int) -> None:
    folder = write_checkpoint(tmp_path / "x", cells=3)
    model = loaded(folder, layer)
    assert model.layer == (layer or "resnet.7")
    pixels = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    features = encode(model, pixels)
    encoder, decoder = map(float64, random_states())
    cnn = {name.removeprefix("resnet."): value for name, value in encoder.items()}
    expected = slow_resnet(cnn, pixels, last=min(last, 7))
    if last == 8:
        expected = slow_pool(expected[0], 3)[None]
    torch.testing.assert_close(features.maps, expected, rtol=1e-10, atol=1e-10)
    reading = model.read("A dog on a zebra, on red grass!")
    tokens = [1, 2, 3, 1, 6, 3, 5, 4]
    assert list(reading.prompt) == tokens  # type: ignore[call-overload]
    scores, maps = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    for row, k in enumerate([0, 1, 2, 3, 5, 6, 7]):  # the zebra is unknown
        a = expected.clone().requires_grad_()
        final = a[0] if last == 8 else slow_pool(slow_resnet(cnn, a, last + 1)[0], 3)
        value = Slow(decoder, final).read(tokens)[0][k]
        (gradient,) = torch.autograd.grad(value, a)
        cam = (gradient[0].mean((1, 2))[:, None, None] * a[0]).sum(0).clamp(min=0)
        torch.testing.assert_close(maps[row], cam.detach(), rtol=1e-7, atol=1e-12)
        assert float(scores[row]) == pytest.approx(value.item(), abs=1e-10)
    assert maps.amax() > 0


def test_pooled_cells_lie_where_what_they_pool_does(tmp_path: Path) -> None:
    """8 cells, 32 pixels apart, pooled to 14."""
    pool = nn.AdaptiveAvgPool2d(14)
    at = 32.0 * torch.arange(8)
    y, x = torch.meshgrid(at, at, indexing="ij")
    rows, columns = pool(torch.stack([y, x])[None])[0]
    folder = write_checkpoint(tmp_path / "x")
    model = vlcam.load(folder, "adaptive_pool")
    assert isinstance(model, ShowAttendTell)
    unpooled = vlcam.load(folder).grid((256, 256))
    assert unpooled == Grid((8, 8), (0.0, 0.0), (32.0, 32.0))
    features = FeatureMaps(torch.rand(1, CHANNELS, 14, 14))
    for grid in (model.grid((256, 256)), model.attention(features, (1, 2), (256, 256)).grid):
        for i in range(14):
            for j in range(14):
                assert grid.center(i, j) == pytest.approx((float(rows[i, j]), float(columns[i, j])))


def test_preprocessing_is_the_originals(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x"))
    picture = photo(150, 90)
    pixels, placement = model.prepare(picture)
    stretched = np.asarray(picture.resize((256, 256), Image.Resampling.BILINEAR))
    expected = torch.tensor(stretched.copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(pixels, (expected - mean[:, None, None]) / std[:, None, None])
    assert placement.to_photo(-0.5, 255.5) == pytest.approx((-0.5, 149.5))


def test_a_caption_carries_the_attention_of_its_words(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x"), "adaptive_pool")
    assert isinstance(model, ShowAttendTell)
    encoded = vlcam.look(model, photo(150, 90))
    explanation = vlcam.explain(model, encoded, "a zebra dog on grass")
    own = explanation.attention
    assert own is not None and encoded.features is not None
    assert [look.text for look in own.looks] == ["a", "dog", "on", "grass"]
    every = model.attention(encoded.features, (1, 6, 2, 3, 4), (256, 256))
    assert torch.equal(own.maps, every.maps[[0, 2, 3, 4]])
    assert own.grid == every.grid == explanation.grid and own.grid.size == (14, 14)
    assert [item.text for item in explanation.items] == ["a", "dog", "on", "grass"] * 2
    assert explanation.photo_map(5).shape == (90, 150)
    for look, drawn in zip(own.looks, list(explanation.photo_maps())[4:], strict=True):
        x, y = look.peak
        assert drawn[y, x] == drawn.max()
    explanation.save(tmp_path / "saved")
    again = Explanation.load(tmp_path / "saved")
    assert again.attention is not None and again.attention.looks == own.looks
    assert torch.equal(again.attention.maps, own.maps)
    assert again.attention.grid == own.grid and again.grid == explanation.grid
    html = explanation.html()
    assert html.count("model&#x27;s own attention ·") == 4 and "whatever" not in html
    assert html.count('<button type="button" class="word') == 8
    assert len(explanation.figure().axes) == 1 + 8 + 1
    assert "the map of “grass”" in index("", "", [Section("", [(explanation, "page.html")])])
    whole = vlcam.explain(model, encoded, "a dog", target="caption").attention
    assert whole is not None and [look.text for look in whole.looks] == ["a", "dog"]
    written = vlcam.explain(model, encoded)
    assert written.attention is not None
    assert [look.text for look in written.attention.looks] == written.caption.split()


def test_a_saved_grid_must_fit_its_maps(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x"), "adaptive_pool")
    vlcam.explain(model, photo(), "a dog").save(tmp_path / "saved")
    file = tmp_path / "saved" / "explanation.json"
    data = json.loads(file.read_text())
    for spoilt in ([[0.0], [1.0]], [[2.0, 1.0], [1.0, 2.0]], [["a"], ["b"]], 3):
        file.write_text(json.dumps(data | {"grid": data["grid"] | {"centres": spoilt}}))
        with pytest.raises(ValueError, match=r"explanation\.json: not a saved explanation"):
            Explanation.load(tmp_path / "saved")


@pytest.mark.parametrize("layout", ["archive", "stream"])
@pytest.mark.parametrize("form", ["parallel", "", "_state_dict"])
def test_other_forms_are_the_same_model(tmp_path: Path, form: str, layout: str) -> None:
    one = vlcam.load(write_checkpoint(tmp_path / "one"))
    two = vlcam.load(write_checkpoint(tmp_path / "two", form, layout=layout))
    before, after = one.module.state_dict(), two.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert isinstance(two, ShowAttendTell) and two.module.config.cells == 14


def test_a_model_is_written_and_read_again(tmp_path: Path) -> None:
    model = vlcam.load(write_checkpoint(tmp_path / "x", cells=6))
    assert isinstance(model, ShowAttendTell) and model.module.config.cells == 6
    model.save(tmp_path / "ours")
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert config["architecture"] == "show-attend-tell" and config["cells"] == 6
    again = vlcam.load(tmp_path / "ours", "adaptive_pool")
    assert isinstance(again, ShowAttendTell) and again.module.config == model.module.config
    before, after = model.module.state_dict(), again.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    for change, message in (
        ({"cells": 0}, "cells is 0"),
        ({"words": ["a"]}, "the vocabulary has no <start>"),
        ({"words": config["words"][:-1]}, "has no <end>"),
    ):
        (tmp_path / "ours" / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
            vlcam.load(tmp_path / "ours")


def embedding(path: Path) -> Tensor:
    model = vlcam.load(path)
    assert isinstance(model, ShowAttendTell)
    return model.module.decoder.embedding.weight


def test_the_files_meant_are_found(tmp_path: Path) -> None:
    last = CHECKPOINT.removeprefix("BEST_")
    folder = write_checkpoint(tmp_path / "x", seed=1)
    write_checkpoint(folder, seed=2, name=last)
    (folder / "meta.json").write_text('{"caption": "<start> a"}')
    assert torch.equal(embedding(folder), random_states(1)[1]["embedding.weight"])
    assert torch.equal(embedding(folder / last), random_states(2)[1]["embedding.weight"])
    (folder / "WORDMAP_other.json").write_text('{"<start>": 0, "<end>": 1}')
    assert embedding(folder).shape == (COUNT, EMBED)
    (folder / WORD_MAP).rename(folder / "WORDMAP_another.json")
    with pytest.raises(ValueError, match=r"map WORDMAP_tiny_5_cap\.json beside BEST.* found WORD"):
        vlcam.load(folder)
    (folder / "WORDMAP_other.json").unlink()
    assert embedding(folder).shape == (COUNT, EMBED)  # the only one there is
    (folder / CHECKPOINT).rename(folder / "one.pth.tar")
    with pytest.raises(ValueError, match=r"expected one checkpoint, found checkpoint_.*, one"):
        vlcam.load(folder)


def test_words_are_read_as_the_project_prepares_them(tmp_path: Path) -> None:
    model = loaded(write_checkpoint(tmp_path / "x"))
    found = model.words("A Dog's dog, - <unk> <end> RED!")
    assert [(w.text, w.tokens, w.unknown) for w in found] == [
        ("a", (1,), False), ("dogs", (6,), True), ("dog", (2,), False), ("<unk>", (6,), False),
        ("end", (6,), True), ("red", (5,), False),
    ]  # fmt: skip


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def _edit(change: Any) -> Any:
    def apply(folder: Path) -> None:
        encoder, decoder = random_states()
        data: dict[str, Any] = {"encoder": encoder, "decoder": decoder}
        change(data)
        torch.save(data, folder / CHECKPOINT)

    return apply


def _rewrite(change: Any) -> Any:
    def apply(folder: Path) -> None:
        (folder / WORD_MAP).write_text(change((folder / WORD_MAP).read_text()))

    return apply


PROBLEMS = {
    f"{CHECKPOINT}: expected one encoder, found none": _edit(lambda d: d.pop("encoder")),
    f"{CHECKPOINT}: its encoder is 1, expected a module": _edit(lambda d: d.update(encoder=1)),
    f"{CHECKPOINT}: its decoder: 'fc.bias' is 1, expected a tensor": _edit(
        lambda d: d["decoder"].update({"fc.bias": 1})
    ),
    f"{CHECKPOINT}: not the weights of an attending decoder: missing f_beta.bias": _edit(
        lambda d: d["decoder"].pop("f_beta.bias")
    ),
    "unexpected x0, x1, x2 and 2 more": _edit(
        lambda d: d["decoder"].update({f"x{i}": torch.zeros(1) for i in range(5)})
    ),
    "of a ResNet as encoder: missing 7.0.bn3.bias": _edit(
        lambda d: d["encoder"].pop("resnet.7.0.bn3.bias")
    ),
    "of a ResNet as encoder: unexpected vit.weight": _edit(
        lambda d: d["encoder"].update({"vit.weight": torch.zeros(1)})
    ),
    "it attends to 9 channels of a CNN of 8": _edit(
        lambda d: d["decoder"].update({"attention.encoder_att.weight": torch.zeros(5, 9)})
    ),
    "f_beta.bias holds numbers that are not finite": _edit(
        lambda d: d["decoder"]["f_beta.bias"].fill_(torch.nan)
    ),
    "expected the word map WORDMAP_tiny_5_cap.json beside": lambda f: (f / WORD_MAP).unlink(),
    "of an attending decoder: it has 9 words, the word map ": _rewrite(
        lambda text: text.replace("}", ', "cat": 9}')
    ),
    f"{WORD_MAP}: not a word map: the words' tokens are not 0, 1, 2": _rewrite(
        lambda text: text.replace('"dog": 2', '"dog": 7')
    ),
    f"{WORD_MAP}: not a word map: the vocabulary has no <end>": _rewrite(
        lambda text: text.replace("<end>", "<eos>")
    ),
    f"{WORD_MAP}: not a word map: Unterminated": _rewrite(lambda text: text[:20]),
    f"{CHECKPOINT}: it asks for posix.mkdir": _edit(lambda d: d.update(x=_Evil(Path("ran")))),
    f"{CHECKPOINT}: damaged, or not written by torch": lambda f: (f / CHECKPOINT).write_bytes(
        (f / CHECKPOINT).read_bytes()[:-300]
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", PROBLEMS)
def test_bad_files_are_named_in_one_line(tmp_path: Path, message: str) -> None:
    folder = write_checkpoint(tmp_path / "bad")
    PROBLEMS[message](folder)
    with pytest.raises(ValueError) as error:
        vlcam.load(folder)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not Path("ran").exists()


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "x")
    assert show_attend_tell.recognises(folder)
    assert show_attend_tell.recognises(folder / CHECKPOINT)
    assert not show_attend_tell.recognises(folder / WORD_MAP)
    other = tmp_path / "other"
    other.mkdir()
    torch.save({"decode_step.weight": torch.ones(1)}, other / CHECKPOINT)
    (other / "x.pth").write_bytes(b"PK\x03\x04")
    (other / "y.pth").write_bytes(b"")
    assert not show_attend_tell.recognises(other)
