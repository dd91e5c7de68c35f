"""Graphs of networks (``torch.fx``), traced without disturbing other threads.

While PyTorch traces a network it replaces the calls of all modules, for every thread: what another
thread computes meanwhile would be taken for a part of the network, and two threads that trace at
once would leave the replacements behind.
"""

from __future__ import annotations

import sys
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

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # What PyTorch's own layers are turned into by a subclass decides by the input's size, or by
        # a flag, which would be fixed in the graph: paddings, normalisations.
        return _is_a_layer(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _is_a_layer(module: nn.Module) -> bool:
    """Whether a module's class is one of PyTorch's layers, is derived from one, or says that it is
    one."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    # timm keeps a list of its modules that no tracer can look into.
    timm = sys.modules.get("timm.layers")
    if timm is not None and timm.is_notrace_module(type(module)):
        return True
    own = (kind for kind in type(module).__mro__ if kind is not nn.Module)
    return any(kind.__module__.startswith("torch.nn.modules.") for kind in own)
