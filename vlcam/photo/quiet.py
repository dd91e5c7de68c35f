"""Keeping PIL, and the C library that reads TIFF files for it, from writing to standard error."""

from __future__ import annotations

import ctypes
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial

from PIL import Image

from vlcam.utils.process_wide import in_effect


def quietly() -> AbstractContextManager[None]:
    """Within, nothing is written of a photo that is damaged, large or odd; what is wrong with it is
    said by the exceptions that PIL raises."""
    return in_effect(
        {
            "PIL's warnings": _without_warnings,
            "PIL's log": _without_log,
            "libtiff's messages": _without_libtiff_messages,
        }
    )


def _without_warnings() -> Callable[[], object]:
    """PIL warns of large images, which we accept or refuse, and of metadata that we do not use."""
    before = warnings.catch_warnings()
    before.__enter__()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return partial(before.__exit__, None, None, None)


def _without_log() -> Callable[[], object]:
    """Python prints what is logged and nobody handles; handlers of the user's still get it."""
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(handler)
    return partial(log.removeHandler, handler)


def _without_libtiff_messages() -> Callable[[], object] | None:
    """libtiff prints a line for each error and warning, unless it is given other handlers."""
    handlers = [(setter, setter(None)) for setter in _libtiff_setters()]
    return partial(_restore, handlers) if handlers else None


_Setter = Callable[[int | None], int | None]
"""Sets a handler of messages by its address (None: no handler), and returns the one before."""


def _restore(handlers: list[tuple[_Setter, int | None]]) -> None:
    for setter, handler in handlers:
        setter(handler)


@cache
def _libtiff_setters() -> list[_Setter]:
    """Of the libtiff that PIL is linked with; none where PIL has none, or hides it."""
    setters = list[_Setter]()
    try:
        library = ctypes.CDLL(Image.core.__file__)  # already loaded, with all that it needs
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setters.append(setter)
    except (OSError, AttributeError):
        return []
    return setters
