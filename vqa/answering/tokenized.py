"""Questions for models that read them with a tokenizer of transformers."""

from __future__ import annotations

from typing import Any

from vlcam.adapters.adapter import Question
from vlcam.formats.folders.tokenizer import tokenize


def understand(
    tokenizer: Any, question: str, *, most: int, name: str, special: bool = True
) -> Question:
    """A question's token ids as its prompt.

    Args:
        tokenizer: a fast one.
        most: the largest number of tokens that the model reads.
        name: of the model, for errors.
        special: with the special tokens around it.

    Returns:
        The question; its unknown words are those that become the tokenizer's unknown token.

    Raises:
        ValueError: the question has no word, none that is known, or more tokens than ``most``.
    """
    read = tokenize(tokenizer, question, add_special_tokens=False, return_offsets_mapping=True)
    if not read["input_ids"]:
        raise ValueError(f"the question {question!r} has no word")
    ids = tokenize(tokenizer, question, add_special_tokens=special)["input_ids"]
    if len(ids) > most:
        raise ValueError(f"the question has {len(ids)} tokens; {name} reads at most {most}")
    unknown = [
        question[start:stop]
        for token, (start, stop) in zip(read["input_ids"], read["offset_mapping"], strict=True)
        if token == tokenizer.unk_token_id
    ]
    if len(unknown) == len(read["input_ids"]):
        raise ValueError(f"{name} knows no word of the question: {', '.join(unknown)}")
    return Question(question, tuple(ids), tuple(unknown))
