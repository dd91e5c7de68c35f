"""What stands for NumPy's types, numbers and arrays in a pickle of plain data."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from vlcam.formats.budget import Budget
from vlcam.formats.pickles.keys import RefusedError
from vlcam.utils.messages.expected import described

_PLAIN_NUMBERS = re.compile(r"[|<>=]?([?]|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")
_MOST_DIMENSIONS = 32
_ELEMENT, _LIST = 40, 64  # rough bytes in memory


class Type:
    """``numpy.dtype`` of plain numbers or strings."""

    def __init__(self, code: Any, *_: Any) -> None:
        if not isinstance(code, str) or not _PLAIN_NUMBERS.fullmatch(code):
            raise RefusedError(f"it asks for NumPy data of type {described(code)}")
        self.dtype = np.dtype(code)

    def take_state(self, state: Any) -> None:
        """Its byte order."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


def numpy_names(budget: Budget) -> dict[tuple[str, str], tuple[Any, ...]]:
    """By module and name: what a call makes."""

    class Array(list[Any]):
        """``numpy.ndarray`` as a list."""

        def take_state(self, state: Any) -> None:
            """Its numbers."""
            _, shape, of, fortran, data = state
            self[:] = _nested(_numbers(data, of, budget), shape, "F" if fortran else "C", budget)

    def scalar(of: Any, data: Any) -> Any:
        return _numbers(data, of, budget)[0].item()

    def empty_array(*_: object) -> Array:
        return Array()

    def whole_array(data: Any, of: Any, shape: Any, order: Any) -> list[Any]:
        """As protocol 5 has arrays."""
        return _nested(_numbers(data, of, budget), shape, order, budget)

    names: dict[tuple[str, str], tuple[Any, ...]] = {
        ("numpy", "dtype"): (Type,),
        ("numpy", "ndarray"): (),
    }
    for core in ("numpy.core", "numpy._core"):
        names[f"{core}.multiarray", "scalar"] = (scalar,)
        names[f"{core}.multiarray", "_reconstruct"] = (empty_array,)
        names[f"{core}.numeric", "_frombuffer"] = (whole_array,)
    return names


def _numbers(data: Any, of: Any, budget: Budget) -> np.ndarray:
    if not isinstance(of, Type) or not isinstance(data, str | bytes):
        raise RefusedError(f"it asks for an array of {described(data)}")
    budget.take(len(data))
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, of.dtype)


def _nested(values: np.ndarray, shape: Any, order: Any, budget: Budget) -> list[Any]:
    """An array's lists within lists. They are counted first: of (2**40, 0) there are 2**40."""
    if not isinstance(shape, tuple) or not 0 < len(shape) <= _MOST_DIMENSIONS:
        raise RefusedError(f"it asks for an array of shape {described(shape)}")
    values = values.reshape(shape, order="F" if order == "F" else "C")
    lists, sizes = 1, list[int](values.shape)
    for size in sizes:
        budget.take(_LIST * lists)
        lists *= size
    budget.take((_ELEMENT + values.itemsize) * values.size)
    return list(values.tolist())
