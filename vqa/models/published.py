"""What PyTorch checkpoints of published VQA models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from vlcam.formats import checkpoint
from vlcam.formats.torch_pickle import mentions
from vlcam.photo.preprocess import Preprocess
from vlcam.utils.messages.expected import described


@dataclass(frozen=True)
class ListedConfig:
    """Everything but the weights, of a model whose files list its words and answers.

    Attributes:
        architecture: the name in ``config.json``, of each subclass.
        cnn: the CNN's name, for results.
        special: words that the vocabulary must have.
        vocabulary: the words of questions, by their numbers from 0.
        answers: in the order of the logits.
        preprocess: from a photo to the CNN's input.
        max_words: of a question; None: any number.
    """

    architecture: ClassVar[str]
    cnn: ClassVar[str]
    special: ClassVar[tuple[str, ...]] = ()

    vocabulary: tuple[str, ...]
    answers: tuple[str, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    max_words: int | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary", "answers"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"{name}: expected a list of texts")
        for word in self.special:
            if word not in self.vocabulary:
                raise ValueError(f"the vocabulary of questions has no {word}")
        most = self.max_words
        if most is not None and (not isinstance(most, int) or most < 1):
            raise ValueError(f"max_words is {described(most)}, expected a whole number above 0")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Of the words."""
        return {word: i for i, word in enumerate(self.vocabulary)}

    def missing(self, words: Sequence[str]) -> list[str]:
        """Those words, in order and without repetition, that the vocabulary lacks."""
        return [word for word in dict.fromkeys(words) if word not in self.numbers]

    def to_json(self) -> dict[str, Any]:
        return checkpoint.to_json(self, self.architecture)


def checkpoints(path: Path, names: Sequence[str]) -> list[Path]:
    """The files of ``torch.save`` with all these names in them: of a folder, or the file itself."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if mentions(file, *names)]


def the_checkpoint(path: Path, names: Sequence[str]) -> Path:
    """The file itself, or the one of a folder; of several the one that is called ``best``.

    Raises:
        ValueError: there is none, or there are several.
    """
    if not path.is_dir():
        return path
    found = checkpoints(path, names)
    found = [file for file in found if "best" in file.name] or found
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "none"
        raise ValueError(f"{path}: expected one checkpoint, found {listed}; give the file")
    return found[0]
