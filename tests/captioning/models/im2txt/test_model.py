"""im2txt against the original, written out one step after the other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import vlcam
from tests.samples.captioning.im2txt import (
    CHANNELS,
    HIDDEN,
    NAMES,
    UNKNOWN,
    WORDS,
    Slim,
    loaded,
    noise,
    variables,
    write_checkpoint,
    write_words,
)
from tests.samples.tensorflow_files import save
from tests.samples.tiny import photo
from vlcam.adapters.adapter import FeatureMaps
from vlcam.attribution import methods
from vlcam.attribution.encoding import encode
from vlcam.attribution.gradients import explain_at_layer, score
from vlcam.attribution.targets import Target, Term, units


class SlowLanguage:
    """The LSTM and what is behind it, one step after the other."""

    def __init__(self, made: dict[str, np.ndarray], names: str = "1.2") -> None:
        self.made = {n: torch.from_numpy(np.asarray(v)).double() for n, v in made.items()}
        self.kernel, self.bias = (self.made[name] for name in NAMES[names])

    def step(self, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.cat([x, h]) @ self.kernel + self.bias
        i, j, f, o = (gates[k * HIDDEN : (k + 1) * HIDDEN] for k in range(4))
        c = c * torch.sigmoid(f + 1.0) + torch.sigmoid(i) * torch.tanh(j)
        return c, torch.tanh(c) * torch.sigmoid(o)

    def begin(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """State (c, h) after the image, from ``Mixed_7c`` (1, u, v, K)."""
        image = maps.mean((1, 2))[0] @ self.made["image_embedding/weights"]
        zero = torch.zeros(HIDDEN, dtype=torch.float64)
        return self.step(image, zero, zero)

    def log_probabilities(self, maps: Tensor, tokens: list[int]) -> Tensor:
        """(len(tokens), V): row k what follows <S> and the first k tokens."""
        state, rows = self.begin(maps), []
        for token in [WORDS.index("<S>"), *tokens[:-1]]:
            row, state = self.behind(token, state)
            rows.append(row)
        return torch.stack(rows)

    def behind(
        self, token: int, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Log-probabilities of what follows a token, and the state then."""
        c, h = self.step(self.made["seq_embedding/map"][token], *state)
        logits = h @ self.made["logits/weights"] + self.made["logits/biases"]
        return logits.log_softmax(0), (c, h)


@pytest.mark.parametrize(("names", "shards"), [("1.2", 1), ("1.0", 3), ("0.x", 1)])
def test_log_probabilities_are_the_originals(tmp_path: Path, names: str, shards: int) -> None:
    folder = write_checkpoint(tmp_path / "model", names, 3, shards)
    made = variables(names, 3)
    model = loaded(folder)
    assert model.name == "model.ckpt-12345" and model.layer == "Mixed_7c"
    features = encode(model, noise())
    slim = Slim(made)
    maps = slim.run(noise().permute(0, 2, 3, 1))
    torch.testing.assert_close(features.maps, maps.permute(0, 3, 1, 2), rtol=1e-9, atol=1e-9)
    reading = model.read("A red zebra on grass.")
    assert [unit.text for unit in reading.units] == ["a", "red", "zebra", "on", "grass", "."]
    assert [unit.unknown for unit in reading.units] == [False, False, True, False, False, False]
    assert reading.prompt == (0, 5, UNKNOWN, 3, 6, 7)
    tokens = [*reading.prompt, WORDS.index("</S>")]
    slow = SlowLanguage(made, names).log_probabilities(maps, tokens)
    with torch.no_grad():
        states = model.teacher_force(features, torch.tensor([tokens]))
        fast = model.log_probabilities(states)[0]
        scores = model.decode(features, [tuple(tokens)])[0]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-9)
    torch.testing.assert_close(scores, slow[range(7), tokens], rtol=0, atol=1e-9)


@pytest.mark.parametrize("layer", ["Mixed_7c", "Mixed_6c", "MaxPool_3a_3x3"])
def test_maps_equal_one_word_at_a_time(checkpoint: Path, layer: str) -> None:
    made = variables()
    model, language = loaded(checkpoint, layer), SlowLanguage(made)
    slim = Slim(made)
    slim.run(noise().permute(0, 2, 3, 1))
    maps = slim.ends[layer]
    features = encode(model, noise())
    reading = model.read("a red dog .")
    scores, found = explain_at_layer(model, features, units(reading), methods.get("grad-cam"))
    tokens = [0, 5, 4, 7]
    for k, token in enumerate(tokens):
        leaf = maps.clone().requires_grad_()
        last = leaf if layer == "Mixed_7c" else Slim(made).run(leaf, since=layer)
        value = language.log_probabilities(last, tokens)[k, token]
        (gradient,) = torch.autograd.grad(value, leaf)
        cam = (gradient[0].mean((0, 1)) * leaf[0]).sum(-1).clamp(min=0).detach()
        torch.testing.assert_close(found[k], cam, rtol=1e-7, atol=1e-12)
        assert float(scores[k]) == pytest.approx(value.item(), abs=1e-9)
    assert found.amax() > 0


def slow_search(
    language: SlowLanguage, maps: Tensor, beam: int, power: float
) -> list[tuple[float, list[int]]]:
    """Scores and tokens of the captions that beam search ends with, by sorted lists."""
    start, end = WORDS.index("<S>"), WORDS.index("</S>")
    partial = [(0.0, [start], language.begin(maps))]
    complete: list[tuple[float, list[int]]] = []
    for _ in range(19):
        longer = []
        for total, tokens, before in partial:
            row, state = language.behind(tokens[-1], before)
            for word in row.argsort(descending=True)[:beam].tolist():
                value = total + float(row[word])
                if word == end:
                    complete.append((value / (len(tokens) + 1) ** power, [*tokens, end]))
                else:
                    longer.append((value, [*tokens, word], state))
        partial = sorted(longer, key=lambda caption: -caption[0])[:beam]
        complete = sorted(complete, reverse=True)[:beam]
        if not partial:
            break
    return complete or [(value, tokens) for value, tokens, _ in partial]


def test_captions_are_the_originals(tmp_path: Path) -> None:
    """Of several models: some captions end, some are cut off, some have tokens beyond the words."""
    lengths, texts = set(), set()
    maps = 2 * torch.rand(1, 3, 3, CHANNELS, generator=torch.Generator().manual_seed(0)).double()
    for seed in range(4):
        made = variables(seed=seed)
        save(tmp_path / f"{seed}" / "model", made)
        write_words(tmp_path / f"{seed}")
        model, language = loaded(tmp_path / f"{seed}"), SlowLanguage(made)
        features = FeatureMaps(maps.permute(0, 3, 1, 2))
        for beam, power in ((1, 0.0), (2, 0.0), (3, 0.0), (3, 0.7), (5, 1.0)):
            expected = slow_search(language, maps, beam, power)
            found = model.beam_search(features, beam, power)
            assert [list(caption.tokens) for caption in found] == [t for _, t in expected]
            assert [c.score for c in found] == pytest.approx([s for s, _ in expected])
            if power == 0:
                tokens = expected[0][1][1:-1]  # what the original prints
                written = [word.text for word in model.generate(features, beam)]
                assert written == [WORDS[t] if t < len(WORDS) else "<UNK>" for t in tokens]
                lengths.add(len(written))
                texts.update(written)
    assert {1, 18} < lengths and "<UNK>" in texts


def test_a_beam_of_one_is_greedy(checkpoint: Path) -> None:
    model, language = loaded(checkpoint), SlowLanguage(variables())
    maps = Slim(variables()).run(noise().permute(0, 2, 3, 1))
    tokens: list[int] = []
    while len(tokens) < 19 and WORDS.index("</S>") not in tokens:
        row = language.log_probabilities(maps, [*tokens, 0])[-1]
        tokens.append(int(row.argmax()))
    words = model.generate(encode(model, noise()))
    assert [word.tokens[0] for word in words] == tokens[:-1]
    asked = Target("all", (Term(1.0, tuple(tokens), tuple(range(len(tokens)))),))
    (best,) = model.beam_search(encode(model, noise()), 1)
    value = float(score(model, encode(model, noise()), [asked]))
    assert value == pytest.approx(best.log_probability, abs=1e-9)


def test_improbable_words_are_not_tried(tmp_path: Path) -> None:
    made = variables()
    made["logits/weights"][:] = 0
    made["logits/biases"][:] = -40  # e^-40 is below 1e-12
    made["logits/biases"][[4, 5]] = [0, -1]
    save(tmp_path / "model", made)
    write_words(tmp_path)
    found = loaded(tmp_path).beam_search(FeatureMaps(torch.ones(1, CHANNELS, 2, 2).double()), 3)
    assert all(set(caption.tokens[1:]) <= {4, 5} for caption in found)


@pytest.mark.parametrize("size", [(410, 300), (37, 700), (346, 346), (1, 1), (2, 1500)])
def test_photos_are_resized_as_tensorflow_1_does(checkpoint: Path, size: tuple[int, int]) -> None:
    picture = photo(*size)
    pixels, _ = vlcam.load(checkpoint).prepare(picture)
    values = np.asarray(picture).astype(np.float64) / 255
    height, width = values.shape[:2]
    for row, column in ((0, 0), (298, 298), (150, 7), (3, 200), (211, 123)):
        y, x = (row + 23) * height / 346, (column + 23) * width / 346
        top, left = math.floor(y), math.floor(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, across = y - top, x - left
        upper = values[top, left] * (1 - across) + values[top, right] * across
        lower = values[bottom, left] * (1 - across) + values[bottom, right] * across
        expected = ((upper * (1 - down) + lower * down) - 0.5) * 2
        np.testing.assert_allclose(pixels[:, row, column].numpy(), expected, atol=2e-4)


def test_a_photo_is_explained_with_one_look_and_no_trace(checkpoint: Path) -> None:
    model = vlcam.load(checkpoint)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    looks = []
    first = model.module.encoder.Conv2d_1a_3x3  # type: ignore[union-attr]
    handle = first.register_forward_hook(lambda _, x, __: looks.append(x[0].device.type))  # type: ignore[operator,union-attr]
    explanation = vlcam.explain(model, photo(410, 300), "a dog on zebra grass")
    handle.remove()
    assert looks.count("cpu") == 1
    assert [word.text for word in explanation.words] == ["a", "dog", "on", "grass"]
    assert explanation.unknown == ("zebra",) and explanation.maps.shape == (4, 8, 8)
    assert all(torch.equal(v, before[k]) for k, v in model.module.state_dict().items())
    own = vlcam.explain(model, photo(410, 300))
    assert own.words and "S>" not in own.caption.replace("<S>", "")
    larger = vlcam.explain(vlcam.load(checkpoint, size=(363, 331)), photo(410, 300), "a dog")
    assert larger.maps.shape == (2, 10, 9)
