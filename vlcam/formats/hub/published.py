"""Published models that one word stands for, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

LISTED = "stored pages of the hub that list the repository's files (2024 and 2025)"
WORKED_OUT = "worked out from the weights' size"
"""Two sources of figures."""


@dataclass(frozen=True)
class Published:
    """A model of the Hugging Face hub.

    Attributes:
        repository: its name there, ``owner/name``.
        megabytes: what is fetched (10^6 bytes): its weights and texts.
        licence: of the weights.
        memory: gigabytes (10^9 bytes) to explain one photo with it on a CPU.
        about: what it is, in a few words.
        sources: where the figures come from.
    """

    repository: str
    megabytes: int
    licence: str
    memory: float
    about: str
    sources: str

    @property
    def bytes(self) -> int:
        """What is fetched, in bytes."""
        return self.megabytes * 10**6


def sized(count: float) -> str:
    """A number of bytes as people say it: "990 MB", "7.5 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(round(count / 1e6), 1)} MB"
