"""What a captioner writes of real photos: BLEU, and whether what it names is in the photo.

    python -m benchmarks.real.captions --data ../shared/data --model photos

Needs, under --data, ``flickr8k/`` and ``flickr30k_entities/annotations.zip``. A noun is a word that
is the head of a phrase ("man" of "an older man", as :mod:`vqa.data.from_captions` finds heads) in
most of the places where the training photos' sentences have it. A caption's noun is really there
where it is the head of a phrase of the photo's own five sentences, in the singular or the plural.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

import captioning
from benchmarks.shared import report
from captioning.data.captions import Example, read_data
from captioning.language.captioner import Captioner
from captioning.training.bleu import bleu
from captioning.training.reward import NOTHING, References
from vlcam.attribution.encoding import look
from vlcam.evaluation.entities import Entities, Phrase
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


def heads(entities: Entities, photo: Path) -> Counter[str]:
    """How often each word is the head of a phrase of a photo's sentences."""
    marked = entities.read(photo.stem.split("_")[0], (1, 1))
    found: Counter[str] = Counter()
    for sentence in marked.sentences:
        for part in sentence:
            if isinstance(part, Phrase):
                words = tuple(word.lower() for word in part.words)
                head = Chunk(part.entity, part.kinds, words).head
                if head:
                    found[head] += 1
    return found


def nouns_of(entities: Entities, examples: Sequence[Example]) -> list[str]:
    """The nouns of the sentences of photos."""
    used = Counter(word for one in examples for words in one.captions for word in words)
    as_head = sum((heads(entities, one.photo) for one in examples), Counter[str]())
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


def true_words(
    captions: Captions, there: Sequence[set[str]], nouns: Iterable[str]
) -> list[tuple[int, str, bool]]:
    """Each noun of the captions: the number of its photo, the noun, whether it is there."""
    known = set(nouns)
    return [
        (number, word, singular(word) in there[number])
        for number, words in enumerate(captions)
        for word in words
        if word in known
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="photos", help="a captioner (default photos)")
    parser.add_argument("--size", type=int, help="input height and width (default: the model's)")
    parser.add_argument("--split", default="test", choices=("val", "test"))
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--photos", type=int, help="only so many")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    begun = time.perf_counter()
    try:
        model = captioning.load(args.model)
        if args.size:
            model.resize((args.size, args.size))
        data = read_data(args.data / "flickr8k", 0)
        entities = Entities(args.data / "flickr30k_entities" / "annotations.zip")
        nouns = nouns_of(entities, data.train)
        photos = getattr(data, args.split)[: args.photos]
        there = [{singular(head) for head in heads(entities, one.photo)} for one in photos]
        found = written(model, photos, args.beams)
    except ValueError as error:
        print(f"benchmarks.real.captions: {error}", file=sys.stderr)
        return 2
    references = [one.captions for one in photos]
    rows, missing = [], Counter[str]()
    for beam, captions in zip(args.beams, found, strict=True):
        scores = bleu(captions, references)
        error = bleu_error(captions, references)
        words = true_words(captions, there, nouns)
        right = mean([float(true) for _, _, true in words], [number for number, _, _ in words])
        rows.append(
            (
                f"beam {beam}" if beam > 1 else "greedy",
                *(f"{score:.3f}" for score in scores[:3]),
                f"{scores[3]:.4f} ± {error:.4f}",
                len(words),
                share(right),
                f"{np.mean([len(caption) for caption in captions]):.1f}",
            )
        )
        missing = Counter(noun for _, noun, true in words if not true)
    head = ("search", "BLEU-1", "2", "3", "4", "nouns", "really there, %", "words a caption")
    parts = [
        f"{len(photos)} {args.split} photos. Nouns: heads of at least {OFTEN} phrases of the"
        f" training photos, and of phrases in at least {MOSTLY:.0%} of their places ({len(nouns)});"
        " really there: heads of phrases of the photo.",
        table(head, rows),
        "Most often not there (last search): "
        + ", ".join(f"{noun} {count}" for noun, count in missing.most_common(15)),
    ]
    title = f"Captions of real photos by {model.name}"
    report.write(args.out, title, parts, time.perf_counter() - begun)
    return 0


if __name__ == "__main__":
    with progress.shown():
        sys.exit(main())
