"""Reading pickles of plain data, and nothing but plain data.

Training scripts of published captioners keep their options and vocabulary in pickle files. A
pickle is a program: it may name any function and have it called. Here it may name only what such
files need (containers, ``argparse.Namespace``, NumPy numbers and arrays); nothing it names is
imported or called, :mod:`vlcam.formats.pickles.machine` makes the same data by itself. Dictionaries
of all kinds come back as ``dict``, a ``deque`` as a list, NumPy numbers as Python numbers, arrays
as (nested) lists.

Vocabularies are often objects of a class of the training script: where the reader names such a
class, its objects come back as namespaces of their attributes.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

from vlcam.formats.budget import Budget, TooMuchError
from vlcam.formats.mapped import mapped
from vlcam.formats.pickles.keys import RefusedError
from vlcam.formats.pickles.machine import Machine, Named
from vlcam.formats.pickles.names import plain_names
from vlcam.utils.messages.errors import one_line

_LONGEST_REASON = 300  # characters


def read_pickle(path: Path, classes: Container[str] = ()) -> Any:
    """The data in a pickle file of any protocol, also one written by Python 2.

    Args:
        classes: names of classes, of any module, whose objects are read as namespaces of their
            attributes (``argparse.Namespace``). The classes themselves are never imported.

    Raises:
        ValueError: the file is damaged, names anything but plain data, or asks for more memory or
            time than its size gives reason to; nothing of it is run.
    """
    with mapped(path) as data:
        budget = Budget(len(data))
        names = plain_names(budget)

        def find(module: str, name: str) -> Named:
            if (module, name) in names:
                return names[module, name]
            if name in classes:
                return names["argparse", "Namespace"]
            raise RefusedError(f"it asks for {described_name(module, name)}")

        try:
            return Machine(data, budget, find).load()
        except RefusedError as refused:
            raise ValueError(f"{path}: {refused}; only plain data is read from pickles") from None
        except TooMuchError as error:
            raise ValueError(f"{path}: {error}") from None
        except Exception as error:  # whatever a broken pickle makes the machine stumble over
            raise ValueError(f"{path}: damaged, or not a pickle ({reason(error)})") from error


def reason(error: Exception) -> str:
    """What an error says, in one line of bounded length."""
    return one_line(error)[:_LONGEST_REASON]


def described_name(module: str, name: str) -> str:
    """A name that a pickle asks for, for an error."""
    return " ".join(f"{module}.{name}".split())[:_LONGEST_REASON]
