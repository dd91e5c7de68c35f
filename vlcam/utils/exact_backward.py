"""Marking code whose backward pass is known to be the derivative, so that nobody has to look."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_inside: ContextVar[bool] = ContextVar("vlcam_exact_backward", default=False)


@contextmanager
def exact_backward() -> Iterator[None]:
    """Around the forward pass of an ``autograd.Function`` of ours, which autograd runs without a
    graph: what it computes is not taken for a gradient that got lost. Its tests compare its
    backward pass with finite differences. Also a decorator."""
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)


def is_exact() -> bool:
    """Whether such code is running, in this thread."""
    return _inside.get()
