"""Whether a function takes what it will be given, asked before it is."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from vlcam.utils.messages.expected import kind_of


def check_takes(function: Any, what: str, *given: str) -> None:
    """Raises ValueError where a function cannot be called with those arguments, by position; also
    where it is no function. What does not say what it takes is let pass.

    Args:
        what: the function is, for the error: "score".
        given: names of the arguments.
    """
    call = f"{what}({', '.join(given)})"
    if not callable(function) or (isinstance(function, type) and issubclass(function, nn.Module)):
        raise ValueError(
            f"{what}: expected a function, got {_kind(function)}; it is called as {call}"
        )
    try:
        signature = inspect.signature(
            function.forward if isinstance(function, nn.Module) else function
        )
    except (TypeError, ValueError):  # of some functions in C
        return
    try:
        signature.bind(*given)
    except TypeError:
        names = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
        own = signature.replace(parameters=names, return_annotation=signature.empty)
        raise ValueError(
            f"{what}: it takes {own}, but is called as {call}: let it take just that, whether it"
            " reads all of it or not"
        ) from None


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else kind_of(value)
