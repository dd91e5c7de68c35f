"""What went wrong, in one line."""

from __future__ import annotations


def flat(text: str) -> str:
    """A text with its line breaks replaced by spaces."""
    return " ".join(text.splitlines())


def one_line(error: BaseException) -> str:
    """An error's message in one line, begun with the name of the file it is about, if any."""
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{error.filename}: "
        return flat(f"{about}{error.strerror}")
    return " ".join(str(error).split()) or type(error).__name__
