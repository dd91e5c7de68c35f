"""Seeing each call of a torch function, in this thread, for as long as one looks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode


class TorchCalls(TorchFunctionMode):
    """A mode of torch that is given each call of a torch function made while it is active.

    A subclass gives :meth:`on_call`, in which it is not active itself.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self.on_call(func, args, kwargs or {})

    @abstractmethod
    def on_call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What the call gives: most often ``func(*args, **kwargs)``."""
