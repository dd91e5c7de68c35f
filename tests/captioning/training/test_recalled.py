"""Words that a CNN trained on ImageNet knows already."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captioning.models.neuraltalk.word_evidence import WordEvidence
from captioning.training.recalled import RECALLED, Recalled, recall
from vlcam.networks.encoder import Encoder

SOME = {"toilet": ("toilet seat",), "cup": ("cup", "coffee mug")}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    encoder = Encoder("efficientnet_lite2", (64, 64)).eval()
    encoder.load_published()
    return encoder


def test_words_are_single_and_their_classes_are_of_imagenet(encoder: Encoder) -> None:
    assert all(word.isalpha() and word.islower() for word in RECALLED)
    recall(encoder, RECALLED, WordEvidence(1280, len(RECALLED)))  # which refuses unknown ones
    with pytest.raises(ValueError, match="ImageNet has no class 'loo'"):
        recall(encoder, {"toilet": ("loo",)}, WordEvidence(1280, 1))


def test_a_words_detector_is_the_mean_of_its_classes_less_that_of_all(encoder: Encoder) -> None:
    from torchvision.models import MobileNet_V2_Weights

    names = MobileNet_V2_Weights.DEFAULT.meta["categories"]
    evidence = WordEvidence(1280, 3)
    before = evidence.weight.detach().clone()
    recall(encoder, SOME, evidence)
    weights = encoder.classifier().numpy()
    for row, classes in ((1, SOME["toilet"]), (2, SOME["cup"])):
        slow = sum(weights[names.index(name)] for name in classes) / len(classes)
        slow = slow - sum(weights) / 1000
        assert np.allclose(evidence.weight[row].detach(), slow, atol=1e-6)
    assert torch.equal(evidence.weight[0], before[0])  # one that is learned


def test_a_cnn_without_that_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match="no published weights of small are known here"):
        recall(Encoder("small", (64, 64)), SOME, WordEvidence(8, 2))
    lite = Encoder("efficientnet_lite2", (64, 64))
    with pytest.raises(ValueError, match=r"\(1000, 1280\), is not one of ImageNet's 1000 classes"):
        recall(lite, SOME, WordEvidence(8, 2))


def test_the_loss_is_how_far_cells_are_from_what_they_were() -> None:
    torch.manual_seed(0)
    before, now = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)
    evidence, seen = WordEvidence(5, 3), torch.randn(4, 3, 2, 2)
    recalled = Recalled(before, evidence, 2, 10.0)
    assert recalled.loss(seen, before(seen)).item() == 0
    maps = now(seen)
    loss = recalled.loss(seen, maps)
    slow = []
    for word in (1, 2):
        pairs = [
            [(evidence.weight[word] @ some[n, :, i, j]).item() for some in (maps, before(seen))]
            for n in range(4)
            for i in range(2)
            for j in range(2)
        ]
        own, was = np.array(pairs).T
        slow.append(((own - was) ** 2).mean() / was.var(ddof=1))
    assert loss.item() == pytest.approx(10 * np.mean(slow), rel=1e-3)
    loss.backward()
    assert now.weight.grad is not None and now.weight.grad.any()
    assert evidence.weight.grad is None  # the detectors stay
    assert before.weight.grad is None
