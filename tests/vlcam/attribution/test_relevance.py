"""Relevance and rollout, by hand."""

from __future__ import annotations

import torch

from vlcam.adapters.attention_flow import PHOTO, Flow
from vlcam.attribution.relevance import rollout, weighted


def test_two_tokens_by_hand() -> None:
    """One layer, one head: relevance 1 for itself, and what it gained from the other."""
    attention = [torch.tensor([[[0.25, 0.75], [0.5, 0.5]]])]
    flow = Flow((((PHOTO, PHOTO),),), first=0)
    gradients = [torch.tensor([[[2.0, 4.0], [-1.0, 1.0]]])]
    assert weighted(flow, attention, gradients, [0]).tolist() == [1.5, 3.0]
    assert weighted(flow, attention, gradients, [1]).tolist() == [0.0, 1.5]
    assert rollout(flow, attention, gradients, [0]).tolist() == [0.625, 0.375]
