"""Whether a photo is to blame for an error, or any other would fail alike: then it is told once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from PIL import Image

from vlcam.adapters.adapter import Adapter
from vlcam.explaining import Request, explain_request
from vlcam.utils.files.outputs import check_folder
from vlcam.utils.messages.errors import one_line

_SIZE = (672, 448)
"""Of a plain picture: multiples of 14, 16, 28 and 32, as models may want them."""

_NUMBERS = re.compile(r"\d+")


class AnyPhoto:
    """What comes of asking a model the same of any photo.

    Args:
        outs: the folders to write to.
    """

    def __init__(self, model: Adapter, request: Request, outs: Sequence[Path]) -> None:
        self._model, self._request, self._outs = model, request, outs

    def check(self, photo: str, error: Exception, left: int) -> None:
        """Returns where the photo is to blame for its error.

        Args:
            left: photos that are not explained yet, this one among them.

        Raises:
            ValueError: a plain picture fails by the same error (but for numbers, which may depend
                on a photo's size).
            OSError: nothing can be written to one of ``outs`` any more.
        """
        if isinstance(error, OSError):
            try:
                for out in self._outs:
                    check_folder(out)
            except OSError as lasting:
                line = f"{one_line(lasting)}: {left} photos are not explained"
                raise OSError(line) from error
            return
        told = one_line(error).removeprefix(f"{Path(photo)}: ")
        if self._complaint and _alike(self._complaint, told):
            name = self._model.name
            raise ValueError(
                f"{name}: {told} (so it is with any photo: {left} are not explained)"
            ) from error

    @cached_property
    def _complaint(self) -> str | None:
        """About a plain picture; None where there is none."""
        picture = Image.new("RGB", _SIZE, "grey")
        try:
            explain_request(self._model, picture, self._request)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            return one_line(error)
        return None


def _alike(one: str, other: str) -> bool:
    return _NUMBERS.sub("", one) == _NUMBERS.sub("", other)
