"""Reading pickles of plain data, and nothing but plain data.

Training scripts of published captioners keep their options and vocabulary in pickle files. A
pickle is a program: it may name any function and have it called. Here it may name only what such
files need (containers, ``argparse.Namespace``, NumPy numbers and arrays), and those names stand for
harmless stand-ins of ours. NumPy numbers come back as Python numbers, arrays as (nested) lists.

Vocabularies are often objects of a class of the training script: where the reader names such a
class, its objects come back as namespaces of their attributes.
"""

from __future__ import annotations

import argparse
import collections
import pickle
import re
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import numpy as np

_PLAIN_NUMBERS = re.compile(r"[|<>=]?[?biufcSU]\d*")


def read_pickle(path: Path, classes: Container[str] = ()) -> Any:
    """The data in a pickle file of any protocol, also one written by Python 2.

    Args:
        classes: names of classes, of any module, whose objects are read as namespaces of their
            attributes (``argparse.Namespace``). The classes themselves are never imported.

    Raises:
        ValueError: the file is damaged, or names anything but plain data; nothing of it is run.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file, classes).load()
    except OSError:
        raise
    except Refused as refused:
        raise ValueError(f"{path}: {refused}; only plain data is read from pickles") from None
    except Exception as error:  # whatever a broken pickle makes the unpickler stumble over
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: damaged, or not a pickle ({reason})") from error


class Refused(pickle.UnpicklingError):
    """A pickle asks for something it may not have, which the message names."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, classes: Container[str]) -> None:
        super().__init__(file, encoding="latin1")  # as Python 2 wrote strings
        self._plain = plain_names()
        self._classes = classes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._plain:
            return self._plain[module, name]
        if name in self._classes:
            return self._plain["argparse", "Namespace"]
        raise Refused(f"it asks for {module}.{name}")


def plain_names() -> dict[tuple[str, str], Any]:
    """What a pickle may name, by module and name; made anew for each file, as a pickle may set
    attributes on it."""
    return _python_names() | _numpy_names()


def _python_names() -> dict[tuple[str, str], Any]:
    """Containers, numbers, texts and ``argparse.Namespace``, in Python 2 and 3."""

    class Namespace(argparse.Namespace):
        pass

    def latin1(text: str, encoding: str = "latin1") -> bytes:
        """``_codecs.encode``, with which old protocols write bytes."""
        return text.encode("latin1")

    def bare(kind: Callable[[], Any], *_: object) -> Any:
        """``copyreg._reconstructor``, with which old protocols write objects."""
        if kind is not Namespace:
            raise Refused("it rebuilds an object that is no argparse.Namespace")
        return kind()

    names: dict[tuple[str, str], Any] = {
        ("argparse", "Namespace"): Namespace,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("collections", "defaultdict"): collections.defaultdict,
        ("collections", "Counter"): dict,
        ("collections", "deque"): collections.deque,
        ("_codecs", "encode"): latin1,
    }
    for module in ("builtins", "__builtin__"):
        for kind in (dict, list, tuple, set, frozenset, complex, int, float, str, bool, object):
            names[module, kind.__name__] = kind
    names["__builtin__", "long"] = int
    names["__builtin__", "unicode"] = str
    for module in ("copyreg", "copy_reg"):
        names[module, "_reconstructor"] = bare
    return names


def _numpy_names() -> dict[tuple[str, str], Any]:
    """NumPy's types, numbers and arrays."""

    class Type:
        """``numpy.dtype`` of plain numbers or strings."""

        def __init__(self, code: str, align: object = False, copy: object = False) -> None:
            if not isinstance(code, str) or not _PLAIN_NUMBERS.fullmatch(code):
                raise Refused(f"it asks for NumPy data of type {str(code)[:40]!r}")
            self.dtype = np.dtype(code)

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            if state[1] in ("<", ">"):
                self.dtype = self.dtype.newbyteorder(state[1])

    class Array(list[Any]):
        """``numpy.ndarray`` as a list."""

        def __setstate__(self, state: tuple[Any, ...]) -> None:
            _, shape, of, fortran, data = state
            array = np.frombuffer(_bytes(data), of.dtype)
            self[:] = array.reshape(shape, order="F" if fortran else "C").tolist()

    def scalar(of: Type, data: str | bytes) -> Any:
        return np.frombuffer(_bytes(data), of.dtype, 1)[0].item()

    def empty_array(*_: object) -> Array:
        return Array()

    names: dict[tuple[str, str], Any] = {
        ("numpy", "dtype"): Type,
        ("numpy", "ndarray"): Array,
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "scalar"] = scalar
        names[module, "_reconstruct"] = empty_array
    return names


def _bytes(data: str | bytes) -> bytes:
    return data.encode("latin1") if isinstance(data, str) else data
