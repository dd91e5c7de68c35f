"""What a captioner writes of real photos: BLEU, and whether what it names is in the photo.

    python -m benchmarks.bundled.captions --data ../shared/data --model photos

Needs, under --data, ``flickr8k/`` and ``flickr30k_entities/annotations.zip``. A noun is a word that
is the head of a phrase ("man" of "an older man", as :mod:`vqa.data.from_captions` finds heads) in
most of the places where the training photos' sentences have it. A caption's noun is really there
where it is the head of a phrase of the photo's own five sentences, in the singular or the plural.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import captioning
from benchmarks.shared import program
from captioning.data.captions import Example, read_data
from captioning.language.captioner import Captioner
from captioning.training.bleu import bleu
from captioning.training.reward import NOTHING, References
from vlcam.attribution.encoding import look
from vlcam.evaluation.entities import Entities, Part, Phrase
from vlcam.evaluation.tables import share, table
from vlcam.metrics.estimates import mean
from vlcam.utils.terminal import progress
from vqa.data.from_captions import Chunk

OFTEN = 5  # times a word has to be the head of a training phrase, to be a noun
MOSTLY = 0.5  # of its places it has to be so
DRAWS = 500  # of the bootstrap

Captions = Sequence[Sequence[str]]


def singular(noun: str) -> str:
    """A noun as it is compared: without the ending of a regular plural."""
    irregular = {"men": "man", "women": "woman", "children": "child", "people": "person"}
    if noun in irregular:
        return irregular[noun]
    for ending, kept in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss")):
        if noun.endswith(ending):
            return noun.removesuffix(ending) + kept
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us")) else noun


@dataclass(frozen=True)
class Sentence:
    """What somebody wrote of a photo: its words, and those that are heads of phrases."""

    words: Sequence[str]
    heads: Sequence[str]


def sentences(entities: Entities, photo: Path) -> list[Sentence]:
    """Those of a photo, whose file has its number in Flickr."""
    return [_read(parts) for parts in entities.read(photo.stem.split("_")[0], (1, 1)).sentences]


def _read(parts: Sequence[Part]) -> Sentence:
    words: list[str] = []
    heads: list[str] = []
    for part in parts:
        if not isinstance(part, Phrase):
            words.append(part.lower())
            continue
        own = tuple(word.lower() for word in part.words)
        words += own
        if head := Chunk(part.entity, part.kinds, own).head:
            heads.append(head)
    return Sentence(words, heads)


def nouns_of(entities: Entities, examples: Sequence[Example]) -> list[str]:
    """The nouns of the sentences of photos."""
    used = Counter(word for one in examples for words in one.captions for word in words)
    marked = [sentence for one in examples for sentence in sentences(entities, one.photo)]
    as_head = Counter(head for sentence in marked for head in sentence.heads)
    return [w for w, n in as_head.items() if n >= OFTEN and n >= MOSTLY * used[w]]


def bleu_error(captions: Captions, references: Sequence[Captions]) -> float:
    """The standard error of BLEU-4, by resampling the photos."""
    each = [References(r).count(c) for c, r in zip(captions, references, strict=True)]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(each), size=(DRAWS, len(each)))
    return float(np.std([sum((each[i] for i in draw), NOTHING).bleu() for draw in draws]))


def written(model: Captioner, photos: Sequence[Example], beams: Sequence[int]) -> list[Captions]:
    """Captions of photos by each number of beams."""
    found: list[list[list[str]]] = [[] for _ in beams]
    for example in progress.each(photos, "captions", unit="photo"):
        encoded = look(model, example.photo)
        for beam, captions in zip(beams, found, strict=True):
            captions.append([w.text for w in model.generate(encoded.features, beam)])
    return list(found)


Told = tuple[int, str, bool]
"""The number of a photo, a noun said of it, whether it is there."""


def told(number: int, words: Iterable[str], there: set[str], nouns: Collection[str]) -> list[Told]:
    """Each noun among words said of a photo."""
    return [(number, word, singular(word) in there) for word in words if word in nouns]


def told_by_people(photos: Sequence[Sequence[Sentence]], nouns: Collection[str]) -> list[Told]:
    """Each noun of each sentence; there is what the photo's other sentences have phrases of."""
    found = []
    for number, written_of_it in enumerate(photos):
        for sentence in written_of_it:
            others = [other for other in written_of_it if other is not sentence]
            found += told(number, sentence.words, heads_of(others), nouns)
    return found


def heads_of(written_of_it: Sequence[Sentence]) -> set[str]:
    """The heads of all phrases, in the singular."""
    return {singular(head) for sentence in written_of_it for head in sentence.heads}


def share_there(nouns: Sequence[Told]) -> str:
    """In percent, with the standard error over photos."""
    return share(mean([float(there) for *_, there in nouns], [number for number, *_ in nouns]))


def main() -> None:
    parser = program.options(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="photos", help="a captioner (default photos)")
    parser.add_argument("--size", type=int, help="input height and width (default: the model's)")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--photos", type=int, help="only so many")
    program.run(parser, measure)


def measure(args: argparse.Namespace) -> tuple[str, list[str]]:
    model = captioning.load(args.model)
    if args.size:
        model.resize((args.size, args.size))
    data = read_data(args.data / "flickr8k", 0)
    entities = Entities(args.data / "flickr30k_entities" / "annotations.zip")
    nouns = set(nouns_of(entities, data.train))
    photos = getattr(data, args.split)[: args.photos]
    marked = [sentences(entities, one.photo) for one in photos]
    there = [heads_of(some) for some in marked]
    found = written(model, photos, args.beams)
    references = [one.captions for one in photos]
    rows, missing = [], Counter[str]()
    for beam, captions in zip(args.beams, found, strict=True):
        scores = bleu(captions, references)
        error = bleu_error(captions, references)
        words = [
            one for i, caption in enumerate(captions) for one in told(i, caption, there[i], nouns)
        ]
        rows.append(
            (
                f"beam {beam}" if beam > 1 else "greedy",
                *(f"{score:.3f}" for score in scores[:3]),
                f"{scores[3]:.4f} ± {error:.4f}",
                len(words),
                share_there(words),
                f"{np.mean([len(caption) for caption in captions]):.1f}",
            )
        )
        missing = Counter(noun for _, noun, true in words if not true)
    people = told_by_people(marked, nouns)
    rows.append(("people", "", "", "", "", len(people), share_there(people), ""))
    head = ("search", "BLEU-1", "2", "3", "4", "nouns", "really there, %", "words a caption")
    parts = [
        f"{len(photos)} {args.split} photos. Nouns: heads of at least {OFTEN} phrases of the"
        f" training photos, and of phrases in at least {MOSTLY:.0%} of their places ({len(nouns)});"
        " really there: heads of phrases of the photo. People: a sentence's nouns by the phrases of"
        " the photo's four other sentences.",
        table(head, rows),
        "Most often not there (last search): "
        + ", ".join(f"{noun} {count}" for noun, count in missing.most_common(15)),
    ]
    return f"Captions of real photos by {model.name}", parts


if __name__ == "__main__":
    main()
