"""Questions taken apart as in training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.vqa.vqa_pytorch import loaded, write_checkpoint


@pytest.mark.parametrize(
    ("tokenizer", "question", "tokens", "unknown"),
    [
        ("mcb", "What is the Red/dog-on?", (1, 2, 3, 5, 4, 6), ()),
        ("mcb", "the dog's cat, cat.", (3, 7, 7, 7), ("dogs", "cat")),
        ("nltk", "The dog's red?", (3, 4, 7, 5, 7), ("'s", "?")),
        ("naive", "The dog-red?", (7, 4, 7, 5, 7), ("The", "-", "?")),
        ("split", "the dog", (3, 4), ()),  # whatever is neither of the first two
    ],
)
def test_questions_are_taken_apart_as_in_training(
    tmp_path: Path, tokenizer: str, question: str, tokens: tuple[int, ...], unknown: tuple[str, ...]
) -> None:
    folder = write_checkpoint(tmp_path / "model", cnn=False, vqa={"nlp": tokenizer})
    read = loaded(folder).understand(question)
    assert read.prompt == tokens and read.unknown == unknown and read.text == question


def test_questions_that_cannot_be_read(tmp_path: Path) -> None:
    model = loaded(write_checkpoint(tmp_path / "model", cnn=False, vqa={"maxlength": 3}))
    cut = model.understand("What is the dog on?")
    assert cut.prompt == (1, 2, 3) and cut.text == "what is the"
    with pytest.raises(ValueError, match="has no word"):
        model.understand("?!")
    with pytest.raises(ValueError, match="knows no word of the question: cat, mouse"):
        model.understand("cat mouse")
