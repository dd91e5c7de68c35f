"""Words detected by a CNN that is trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioning.models.neuraltalk.word_evidence import WordEvidence
from captioning.training.word_detector import WordDetector, frequent


def test_words_are_detected_by_their_strongest_cells() -> None:
    evidence = WordEvidence(2, 4)
    detector = WordDetector(evidence, range(4), [[[1], [1, 2]], [[1]]])
    with torch.no_grad():
        evidence.weight.copy_(torch.tensor([[0.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
    often = torch.tensor([1e-4, 1 - 1e-4, 0.5, 1e-4]).logit()
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 1, 2, 0] = 5.0
    maps[0, 0] = 1.0
    assert torch.allclose(detector(maps)[0], often)  # no channel speaks against a word
    maps[0, 0] = 0.0
    with torch.no_grad():
        evidence.weight[2, 1] = 3.0  # dog: the second channel
    slow = np.log(np.mean([np.exp(4 * 15.0), *[1.0] * 8])) / 4
    assert detector(maps)[0, 2].item() == pytest.approx(slow)
    chance = detector(maps).detach().double().sigmoid()[0]
    assert detector.loss(maps, [[[1]]]).item() == pytest.approx(
        -float(chance[1].log() + sum((1 - chance[i]).log() for i in (0, 2, 3))), rel=1e-4
    )


def test_a_pretrained_cnns_channels_may_speak_against_words_and_half_are_looked_at() -> None:
    evidence = WordEvidence(64, 3)
    detector = WordDetector(evidence, range(3), [[[1]], [[2]]], pretrained=True)
    maps = torch.ones(1, 64, 2, 2)
    assert torch.equal(detector(maps)[0], evidence.bias)  # knows nothing yet
    with torch.no_grad():
        evidence.weight[1] = -1.0
    torch.manual_seed(0)
    seen = [(evidence.bias - detector(maps)[0])[1].item() / 2 for _ in range(100)]
    assert all(round(count) == pytest.approx(count, abs=1e-4) for count in seen)  # whole channels
    assert 30 < np.mean(seen) < 34
    assert (detector.eval()(maps)[0] - evidence.bias)[1].item() == pytest.approx(-64)


def test_words_that_captions_of_enough_photos_have() -> None:
    captions = [[[1, 2], [2]], [[2, 3]], [[3, 3]]]
    assert frequent(captions, 1) == [1, 2, 3]
    assert frequent(captions, 2) == [2, 3]
    detector = WordDetector(WordEvidence(2, 2), [2, 3], captions)
    maps = torch.zeros(1, 2, 1, 1)
    rare, both = detector.loss(maps, [[[1]]]).item(), detector.loss(maps, [[[2, 3]]]).item()
    chance = detector(maps).detach().double().sigmoid()[0]
    assert rare == pytest.approx(-float((1 - chance).log().sum()))
    assert both == pytest.approx(-float(chance.log().sum()))
