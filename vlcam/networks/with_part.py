"""Models with one part replaced, that share all others with the model they were made of."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def with_part(module: Module, name: str, part: nn.Module) -> Module:
    """A model as ``module``, with another module in the place of the one of that (dotted) name.

    Parameters, buffers and all other parts are the same objects; nothing of ``module`` itself
    changes. The modules on the way to the part are in eval mode.
    """
    own, _, rest = name.partition(".")
    inner = with_part(module.get_submodule(own), rest, part) if rest else part
    view = copy.copy(module)
    view._modules = {**module._modules, own: inner}
    view.training = False
    return view
