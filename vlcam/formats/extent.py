"""Networks that are built from a configuration: no larger than the weights there are for them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlcam.utils.files.text_files import objects_within
from vlcam.utils.torch_calls import TorchCalls

_BESIDE = 2**24
"""Numbers that a network may have beside its weights: masks and tables, which are not saved."""

_MAKERS = (
    torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange,
    torch.linspace, torch.eye,
)  # fmt: skip
"""What makes most tensors; they can say beforehand how large these will be."""

_TIMES = 4
"""How much larger than its weights a network may be while it is built: tied weights have their own
numbers at first, and some are packed in the file."""

_CALLS = 4000
"""Tensors that are made beside the weights."""

_MOST = 10_000
"""Layers or labels that any network may have: a list of so many costs next to nothing."""

_LAYERS = re.compile(r"(num_.*|n_|.*_)?(layers?|blocks|depths?|stages)")
_LABELS = re.compile(r"num_(\w+_)?labels")


@dataclass(frozen=True)
class Extent:
    """How large the weights of a network are.

    Attributes:
        tensors: how many there are.
        numbers: in all of them.
        longest: the longest side of any.
    """

    tensors: int
    numbers: int
    longest: int

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], packed: int = 1) -> Extent:
        """Of weights of these shapes, where each number in the file is up to ``packed`` numbers of
        the network."""
        sizes = [math.prod(shape) for shape in shapes.values()]
        full = [shape for shape, size in zip(shapes.values(), sizes, strict=True) if size]
        longest = max((side for shape in full for side in shape), default=0)
        return cls(len(shapes), packed * sum(sizes), packed * longest)


def check_counts(settings: Any, extent: Extent, what: str) -> None:
    """Refuses a configuration with more layers or labels than its weights can have, of which
    transformers makes lists before it builds anything.

    Raises:
        ValueError: it has; one line that begins with ``what`` and names the setting.
    """
    for found in objects_within(settings):
        for name, value in found.items():
            most = _most(name, extent)
            values = value if isinstance(value, list) else [value]
            if most and any(type(one) in (int, float) and one > most for one in values):
                raise ValueError(
                    f"{what}: {name} is {max(values)}, more than the weights there are for it"
                )


def _most(name: str, extent: Extent) -> int:
    """The largest value of a setting of that name; 0: any."""
    if _LAYERS.fullmatch(name):
        return max(_MOST, extent.tensors)
    return max(_MOST, extent.longest) if _LABELS.fullmatch(name) else 0


@contextmanager
def no_larger_than(extent: Extent, what: str = "it", beside: int = _BESIDE) -> Iterator[None]:
    """Within, networks are built in this thread; one that would grow beyond what there are weights
    for is given up before it does.

    Args:
        what: asks for the network, in the error: "config.json".
        beside: numbers that the network may have beside its weights.

    Raises:
        ValueError: one would; one line.
    """
    with _Allowance(extent, what, beside):
        yield


class _Allowance(TorchCalls):
    """Counts the tensors that are made of nothing, and their numbers."""

    def __init__(self, extent: Extent, what: str, beside: int) -> None:
        super().__init__()
        self._what, self._extent = what, extent
        self._calls = _TIMES * extent.tensors + _CALLS
        self._numbers = _TIMES * extent.numbers + beside

    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if func in _MAKERS:
            kept = {name: kwargs[name] for name in kwargs if name not in _OF_MEMORY}
            self._take(func(*args, **kept, device="meta").numel())
            return func(*args, **kwargs)
        made = func(*args, **kwargs)
        if isinstance(made, Tensor) and not any(isinstance(arg, Tensor) for arg in args):
            self._take(made.numel())
        return made

    def _take(self, numbers: int) -> None:
        self._calls -= 1
        self._numbers -= numbers
        if self._calls < 0 or self._numbers < 0:
            raise ValueError(
                f"{self._what} asks for a network far larger than its weights, which are"
                f" {self._extent.numbers:,} numbers in {self._extent.tensors} tensors"
            )


_OF_MEMORY = {"device", "generator", "out", "pin_memory"}
"""Options of the makers that say nothing of the size."""
