"""Nothing but the one-line error is said of a damaged photo, and all is as before."""

from __future__ import annotations

import io
import logging
import warnings

import pytest
from PIL import Image

from vlcam.photo.quiet import quietly


def damaged_tiff() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "TIFF", compression="tiff_adobe_deflate")
    content = bytearray(file.getvalue())
    content[10:30] = bytes(20)  # of the pixels
    return bytes(content)


def test_libtiff_says_nothing_within_and_speaks_again_behind(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def read() -> str:
        with pytest.raises(OSError, match="decoder error"):
            Image.open(io.BytesIO(damaged_tiff())).load()
        return capfd.readouterr().err

    with quietly(), quietly():
        assert read() == ""
    assert read().startswith("ZIPDecode: ")


def test_pils_log_is_the_users_affair(caplog: pytest.LogCaptureFixture) -> None:
    """Python prints what nobody handles; who handles it still gets it."""
    log = logging.getLogger("PIL")
    before = list(log.handlers), list(warnings.filters)
    with quietly():
        logging.getLogger("PIL.TiffImagePlugin").error("too many samples")
        assert any(isinstance(handler, logging.NullHandler) for handler in log.handlers)
    assert caplog.messages == ["too many samples"]
    assert (log.handlers, warnings.filters) == before
