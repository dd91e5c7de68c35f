"""Words from sub-words, of every kind of tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.samples.pretrained import END, VOCABULARY, byte_level, unigram, word_pieces
from vlcam.adapters.subwords import Subwords
from vlcam.adapters.teacher_forcing import TokenizedWord, reading


def clip_like() -> PreTrainedTokenizerFast:
    """Each word's last token bears a sign."""
    merges = [("d", "o"), ("do", "g</w>")]
    pieces = ["<end>", *"dogs", *(f"{letter}</w>" for letter in "dogs"), "do", "dog</w>"]
    model = models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, merges, end_of_word_suffix="</w>"
    )
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def whole_words() -> PreTrainedTokenizerFast:
    """A vocabulary of words, without a sign of where they begin."""
    model = models.WordLevel({"<unk>": 0, "a": 1, "dog": 2, "dogs": 3, ".": 4}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def pieces(tokenizer: Any, words: list[TokenizedWord]) -> list[list[str]]:
    return [tokenizer.convert_ids_to_tokens(word.tokens) for word in words]


def test_word_piece() -> None:
    word_piece = word_pieces()
    words = Subwords(word_piece).read("A Photographers dog?zebra, dogs")
    assert [word.text for word in words] == ["A", "Photographers", "dog", "?", "zebra", ",", "dogs"]
    assert pieces(word_piece, words)[1:3] == [["photo", "##grapher", "##s"], ["dog"]]
    assert [word.text for word in words if word.unknown] == ["zebra"]


def test_byte_level() -> None:
    tokenizer = byte_level()
    text = "A photos dog, dogé\nrunning"
    words = Subwords(tokenizer).read(text)
    assert [word.text for word in words] == ["A", "photos", "dog,", "dogé", "running"]
    assert pieces(tokenizer, words)[1:4] == [["Ġphoto", "s"], ["Ġdog", ","], ["Ġdog", "Ã", "©"]]
    assert pieces(tokenizer, words)[4][0] == "Ċ"
    assert not any(word.unknown for word in words)
    assert [token for word in words for token in word.tokens] == tokenizer(text)["input_ids"]


def test_sentence_piece() -> None:
    tokenizer = unigram()
    words = Subwords(tokenizer).read("a photographers dogs, running ☃ dog☃s")
    texts = ["a", "photographers", "dogs,", "running", "☃", "dog☃s"]
    assert [word.text for word in words] == texts
    assert pieces(tokenizer, words)[1:3] == [["▁photo", "graph", "er", "s"], ["▁dog", "s", ","]]
    assert [word.text for word in words if word.unknown] == ["☃", "dog☃s"]


def test_signs_at_the_ends_of_words() -> None:
    tokenizer = clip_like()
    words = Subwords(tokenizer).read("dogs dog so")
    assert [word.text for word in words] == ["dogs", "dog", "so"]
    assert pieces(tokenizer, words) == [["do", "g", "s</w>"], ["dog</w>"], ["s", "o</w>"]]


def test_a_vocabulary_of_whole_words() -> None:
    words = Subwords(whole_words()).read("a dog, dogs zebra.")
    assert [word.text for word in words] == ["a", "dog", ",", "dogs", "zebra", "."]
    assert [word.text for word in words if word.unknown] == [",", "zebra"]


@pytest.mark.parametrize("make", [byte_level, unigram, clip_like, word_pieces, whole_words])
def test_what_is_read_is_written(make: Any) -> None:
    subwords = Subwords(make())
    words = subwords.read("dogs dog")
    assert subwords.written([token for word in words for token in word.tokens]) == words


def test_special_tokens_are_read_but_not_shown() -> None:
    """Words behind them keep their places, and a word does not go on across one."""
    tokenizer = byte_level("<s>")
    subwords = Subwords(tokenizer)
    start, end = tokenizer.convert_tokens_to_ids(["<s>", END])
    dog = subwords.read("dog")[0].tokens
    words = subwords.written([start, *dog, end, *dog])
    assert [word.text for word in words] == ["", "dog", "", "dog"]
    found = reading("dog dog", words)
    assert found.prompt == (start, *dog, end, *dog)
    assert [unit.scores for unit in found.units] == [(1, 2), (4, 5)]
    assert subwords.opening() == [TokenizedWord("", (start,))]
    assert Subwords(byte_level()).opening() == [] == Subwords(unigram()).opening()


def test_special_tokens_of_word_piece() -> None:
    word_piece = word_pieces()
    words = Subwords(word_piece).read("a dog [SEP]")
    assert [word.text for word in words] == ["a", "dog", "[SEP]"] and words[2].unknown
    ids = [VOCABULARY.index(piece) for piece in ("[CLS]", "dog", "##s", "[UNK]", "##s")]
    assert [w.text for w in Subwords(word_piece).written(ids)] == ["", "dogs", "s"]
    nameless = len(VOCABULARY)  # published BLIP models have a row more than their tokenizers
    assert [w.text for w in Subwords(word_piece).written([7, nameless])] == ["dog", ""]


def test_a_slow_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import CTRLTokenizer

    (tmp_path / "vocab.json").write_text('{"<unk>": 0, "a</w>": 1}')
    (tmp_path / "merges.txt").write_text("#version\n")
    slow = CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    with pytest.raises(ValueError, match="CTRLTokenizer is no fast tokenizer"):
        Subwords(slow)


def test_an_answer_is_split_as_it_stands_behind_the_prompt() -> None:
    """SentencePiece puts a blank before every text, but not in the midst of one."""
    pieces = ["<unk>", "▁", "a", ":", "▁a", "A", "▁A"]
    bpe = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [("▁", "a"), ("▁", "A")]))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    subwords = Subwords(PreTrainedTokenizerFast(tokenizer_object=bpe, unk_token="<unk>"))
    (alone,) = subwords.read("a")
    first, second = subwords.read(" a a", before="A:")
    assert alone.tokens == first.tokens == second.tokens == (4,)
    assert first.text == second.text == "a"
    (odd,) = subwords.read("a", before="A: ")  # the token of the blank and the word spans both
    assert odd.tokens == (4,)
