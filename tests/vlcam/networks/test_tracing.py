"""Tracing a network in one thread while others compute: they do not notice."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import Tensor, nn

from vlcam.networks.tracing import Tracer


@pytest.fixture
def often_another_thread() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = [[nn.Conv2d(n, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()] for n in [3] * 12]
    return nn.Sequential(*(module for part in parts for module in part)).eval()


@pytest.mark.usefixtures("often_another_thread")
@pytest.mark.parametrize("same", [True, False], ids=["the traced network", "another"])
def test_other_threads_compute_as_ever(same: bool) -> None:
    net, pixels = network(), torch.randn(1, 3, 8, 8)
    other = net if same else network()
    call, over = nn.Module.__call__, Event()
    with torch.no_grad():
        expected = other(pixels)

    def compute() -> list[Tensor]:
        found = []
        while not over.is_set():
            with torch.no_grad():
                found.append(other(pixels))
        return found

    with ThreadPoolExecutor(4) as pool:
        computing = pool.submit(compute)
        try:
            graphs = list(pool.map(lambda _: Tracer().trace(net), range(60)))
        finally:
            over.set()
        found = computing.result()
    assert len(found) > 10 and all(torch.equal(one, expected) for one in found)
    usual = [(node.op, str(node.target)) for node in Tracer().trace(net).nodes]
    assert len(usual) == len(list(net)) + 2
    for graph in graphs:
        assert [(node.op, str(node.target)) for node in graph.nodes] == usual
    assert nn.Module.__call__ is call  # what tracing puts there is gone
