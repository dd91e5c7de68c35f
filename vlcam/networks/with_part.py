"""A model with one part replaced, which shares all other parts with the original."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def with_part(module: Module, name: str, part: nn.Module) -> Module:
    """A model like ``module``, with ``part`` in place of the submodule of that (dotted) name.

    Parameters, buffers and all other submodules are the same objects; ``module`` itself is not
    changed. The modules that contain the part are in eval mode.
    """
    own, _, rest = name.partition(".")
    inner = with_part(module.get_submodule(own), rest, part) if rest else part
    view = copy.copy(module)
    view._modules = {**module._modules, own: inner}
    view.training = False
    return view
