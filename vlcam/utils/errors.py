"""What went wrong, in one line."""

from __future__ import annotations


def flat(text: str) -> str:
    """A text in one line."""
    return " ".join(text.splitlines())


def one_line(error: Exception) -> str:
    """What an error says, after the file it is about."""
    if isinstance(error, OSError) and error.strerror:
        about = "" if error.filename is None else f"{error.filename}: "
        return flat(f"{about}{error.strerror}")
    return " ".join(str(error).split()) or type(error).__name__
