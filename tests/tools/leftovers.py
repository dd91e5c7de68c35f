"""Tensors that outlive what made them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def no_tensor_left() -> Iterator[None]:
    """Fails where a tensor made inside lives on behind it."""
    gc.collect()
    gc.freeze()  # what was there before is left out of all counts, and costs nothing from now on
    yield
    gc.collect()
    left = [tuple(o.shape) for o in gc.get_objects() if issubclass(type(o), Tensor)]
    assert left == []
