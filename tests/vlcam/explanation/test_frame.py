"""An explanation as a table: the same columns whatever is explained; without pandas one line."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pandas
import pytest
import torch

from tests.samples import by_hand
from vlcam.explanation.result import Answer


def test_a_row_for_each_word_or_answer() -> None:
    said = by_hand.explanation(["a", "red", "dog"])
    flat = replace(said.words[1], degenerate=True)
    said = replace(said, words=(said.words[0], flat, said.words[2]))
    table = said.to_frame()
    assert list(table.text) == ["a", "red", "dog"] == [item.text for item in said.explained]
    assert list(table.log_probability) == list(table.score) == [w.score for w in said.words]
    assert list(table.probability) == [word.probability for word in said.words]
    assert (table.x[0], table.y[0]) == said.words[0].peak and math.isnan(table.x[1])
    assert list(table.degenerate) == [False, True, False] and table.logit.isna().all()
    for name in ("photo", "model", "layer", "method", "target", "caption"):
        assert set(table[name]) == {getattr(said, name)}
    answers = tuple(Answer(text, 1.5, 0.25, (3, 4), False) for text in ("red", "two"))
    asked = replace(
        said,
        **{"question": "what?", "answers": answers, "words": (), "caption": ""},
        target="logit of each answer",
        maps=torch.zeros(2, 6, 8),
    )
    other = asked.to_frame()
    assert asked.explained == answers and asked.answers[0].score == 1.5
    assert (
        list(other.columns) == list(table.columns)
        and list(other.dtypes)[7:] == list(table.dtypes)[7:]
    )
    assert list(other.logit) == [1.5, 1.5] and other.log_probability.isna().all()
    assert len(pandas.concat([table, other])) == 5
    difference = replace(asked, target="difference of two answers' logits").to_frame()
    assert difference.logit.isna().all() and list(difference.score) == [1.5, 1.5]


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ValueError, match=r"^a table needs pandas .*: pip install pandas$"):
        by_hand.explanation(["a"]).to_frame()
