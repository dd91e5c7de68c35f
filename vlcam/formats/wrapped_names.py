"""Names of weights, without what wrapped the modules when they were saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

WRAPPERS = frozenset(
    {
        "module",  # nn.DataParallel, DistributedDataParallel, AveragedModel, DeepSpeed
        "_orig_mod",  # torch.compile
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",  # Lightning Fabric
    }
)
"""What torch's wrappers call the module that they wrap, in the names of its weights."""

_COUNTER = "n_averaged"  # of AveragedModel, beside its module

Value = TypeVar("Value")


def unwrapped(state: Mapping[str, Value], what: str) -> dict[str, Value]:
    """A state dict by the names that the modules have by themselves, whatever wrapped them, or
    parts of them, when they were saved: ``module.``, ``_orig_mod.`` and the like, anywhere in a
    name and any number of them.

    Raises:
        ValueError: two names differ only in that; one line that begins with ``what``.
    """
    plain: dict[str, Value] = {}
    wrapped = False
    for name, value in state.items():
        short = ".".join(part for part in name.split(".") if part not in WRAPPERS) or name
        if short in plain:
            raise ValueError(f"{what}: {name} is there twice, once without what wraps a module")
        wrapped = wrapped or short != name
        plain[short] = value
    if wrapped:
        plain.pop(_COUNTER, None)
    return plain


def without_wrappers(text: bytes) -> bytes:
    """A text that holds names of weights, without what :func:`unwrapped` leaves out of them."""
    for wrapper in WRAPPERS:
        text = text.replace(f"{wrapper}.".encode(), b"")
    return text
