"""Words detected by a CNN that is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioning.training.word_detector import WordDetector
from vlcam.formats.vocabulary import Vocabulary


def test_words_are_detected_by_their_strongest_cells() -> None:
    vocabulary = Vocabulary(("cat", "dog", "UNK"))
    detector = WordDetector(2, [[[1], [1, 2]], [[1]]], vocabulary)
    with torch.no_grad():
        detector.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    often = torch.tensor([1e-4, 1 - 1e-4, 0.5, 1e-4]).logit()
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 1, 2, 0] = 5.0
    maps[0, 0] = 1.0
    assert torch.allclose(detector(maps)[0], often)  # no channel speaks against a word
    maps[0, 0] = 0.0
    with torch.no_grad():
        detector.weight[2, 1] = 3.0  # dog: the second channel
    slow = np.log(np.mean([np.exp(4 * 15.0), *[1.0] * 8])) / 4
    assert detector(maps)[0, 2].item() == pytest.approx(slow)
    chance = detector(maps).detach().double().sigmoid()[0]
    assert detector.loss(maps, [[[1]]]).item() == pytest.approx(
        -float(chance[1].log() + sum((1 - chance[i]).log() for i in (0, 2, 3))), rel=1e-4
    )


def test_a_pretrained_cnns_channels_may_speak_against_words_and_half_are_looked_at() -> None:
    vocabulary = Vocabulary(("cat", "UNK"))
    detector = WordDetector(64, [[[1]], [[2]]], vocabulary, pretrained=True)
    maps = torch.ones(1, 64, 2, 2)
    assert torch.equal(detector(maps)[0], detector.bias)  # knows nothing yet
    with torch.no_grad():
        detector.weight[1] = -1.0
    torch.manual_seed(0)
    seen = [(detector.bias - detector(maps)[0])[1].item() / 2 for _ in range(100)]
    assert all(round(count) == pytest.approx(count, abs=1e-4) for count in seen)  # whole channels
    assert 30 < np.mean(seen) < 34
    assert (detector.eval()(maps)[0] - detector.bias)[1].item() == pytest.approx(-64)
