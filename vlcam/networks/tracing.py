"""Graphs of networks (``torch.fx``), traced without disturbing other threads.

While PyTorch traces a network it replaces the calls of all modules, for every thread: what another
thread computes meanwhile would be taken for a part of the network, and two threads that trace at
once would leave the replacements behind.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, get_ident
from typing import Any

from torch import fx, nn

_one_at_a_time = Lock()


class Tracer(fx.Tracer):
    """PyTorch's tracer, for what its own thread computes only. To be used once."""

    def __init__(self) -> None:
        super().__init__()
        self._thread: int | None = None

    def trace(
        self, root: nn.Module | Callable[..., Any], concrete_args: dict[str, Any] | None = None
    ) -> fx.Graph:
        with _one_at_a_time:
            self._thread = get_ident()
            return super().trace(root, concrete_args)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
