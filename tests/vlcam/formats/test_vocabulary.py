"""Words and their tokens."""

from __future__ import annotations

import json

from vlcam.formats.vocabulary import Vocabulary, words_of


def test_words_become_tokens_and_back() -> None:
    vocabulary = Vocabulary.count([words_of("A dog, 2 dogs!"), words_of("a dog")], threshold=2)
    assert vocabulary.words == ("a", "dog", "UNK")
    assert vocabulary.tokens(["a", "kite", "dog"]) == [1, 3, 2]
    assert vocabulary.missing(["kite", "a", "kite"]) == ["kite"]
    assert vocabulary.text([2, 1, 0, 1]) == ["dog", "a"]
    assert Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary
