"""What captions and WordNet offer for the table of visual words, and how often its words are right.

    python -m benchmarks.real.word_candidates --data ../shared/data [--wordnet DIR]

1. How many visual words of COCO's captions name a category that is drawn in the photo, and the
   words for which it mostly is not.
2. With ``--wordnet`` (the folder of ``data.noun`` and ``index.noun``; Debian's package
   ``wordnet-base``): for each category the hyponyms of its WordNet synsets that occur in the
   captions of ``--data`` and that the table does not have, the most frequent first.

WordNet 3.0 is Copyright 2006 by Princeton University, which permits its use; nothing of it is in
this repository: what is printed are candidates, to be judged one by one.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import re
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from word_maps.context import bare
from word_maps.words import categories, plural, table, visual_words

MORE_SYNSETS = {
    "airplane": ("aircraft", "jet"),
    "bus": ("motorbus",),
    "cell phone": ("telephone",),
    "cow": ("cattle", "ox"),
    "cup": ("cup", "mug", "drinking glass"),
    "dining table": ("table", "dining table"),
    "handbag": ("bag",),
    "oven": ("stove",),
    "potted plant": ("houseplant",),
    "sports ball": ("ball",),
    "suitcase": ("luggage",),
    "tie": ("necktie",),
    "tv": ("television receiver", "monitor"),
}
"""Names by which WordNet has a category, where they are not its own."""


def photos(data: Path) -> Iterator[tuple[frozenset[str], list[str]]]:
    """Each COCO photo's categories that are drawn, and its captions."""
    for instances in sorted((data / "coco" / "annotations").glob("instances_*.json")):
        found = json.loads(instances.read_bytes())
        names = {entry["id"]: entry["name"] for entry in found["categories"]}
        drawn, texts = defaultdict[int, set[str]](set), defaultdict[int, list[str]](list)
        for entry in found["annotations"]:
            drawn[entry["image_id"]].add(names[entry["category_id"]])
        captions = instances.with_name(instances.name.replace("instances", "captions"))
        for entry in json.loads(captions.read_bytes())["annotations"]:
            texts[entry["image_id"]].append(entry["caption"])
        yield from ((frozenset(drawn[image]), texts[image]) for image in texts)


def captions(data: Path) -> Iterator[str]:
    """Every caption at hand: COCO's, Flickr8k's and Flickr30k Entities'."""
    yield from (text for _, texts in photos(data) for text in texts)
    with (data / "flickr8k" / "captions.txt").open(encoding="utf-8") as file:
        yield from (row["caption"] for row in csv.DictReader(file))
    with zipfile.ZipFile(data / "flickr30k_entities" / "annotations.zip") as archive:
        for name in archive.namelist():
            if "Sentences/" in name and name.endswith(".txt"):
                text = archive.read(name).decode()
                yield from re.sub(r"\[/EN#\S+ ([^\]]*)\]", r"\1", text).splitlines()


def shares(data: Path) -> list[str]:
    """Lines: how many visual words name what is drawn, and which mostly do not."""
    seen, right = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for drawn, texts in photos(data):
        for tokens in map(str.split, texts):
            for start, stop, name in visual_words(tokens):
                word = " ".join(map(bare, tokens[start:stop])), name
                seen[word] += 1
                right[word] += name in drawn
    total = f"{right.total()} of {seen.total()} ({100 * right.total() / seen.total():.1f} %)"
    wrong = [word for word, count in seen.most_common() if 2 * right[word] < count]
    return [
        f"{total} visual words of COCO's captions name what is drawn in the photo",
        "mostly not drawn: " + ", ".join(f"{word} ({name})" for word, name in wrong),
    ]


class WordNet:
    """The nouns of WordNet's files (their layout: wndb(5))."""

    def __init__(self, folder: Path) -> None:
        self.words, self.narrower = dict[int, list[str]](), defaultdict[int, list[int]](list)
        self.senses = dict[str, list[int]]()
        for fields in self._lines(folder / "index.noun"):
            self.senses[fields[0].replace("_", " ")] = list(map(int, fields[-int(fields[2]) :]))
        for fields in self._lines(folder / "data.noun"):
            synset, count = int(fields[0]), int(fields[3], 16)
            lemmas = fields[4 : 4 + 2 * count : 2]
            self.words[synset] = [lemma.lower().replace("_", " ") for lemma in lemmas]
            pointers = fields[5 + 2 * count :]
            for kind, other in zip(pointers[::4], pointers[1::4], strict=False):
                if kind == "@":
                    self.narrower[int(other)].append(synset)

    def hyponyms(self, word: str) -> set[str]:
        """Every word for something of that kind, in its first sense."""
        todo, found = self.senses.get(word, [])[:1], set[int]()
        while todo:
            synset = todo.pop()
            if synset not in found:
                found.add(synset)
                todo += self.narrower[synset]
        return {bare(word) for synset in found for word in self.words[synset]}

    @staticmethod
    def _lines(path: Path) -> Iterator[list[str]]:
        with path.open(encoding="utf-8") as file:
            yield from (line.split(" | ")[0].split() for line in file if not line.startswith(" "))


def candidates(data: Path, wordnet: WordNet) -> list[str]:
    """A line for each category: the hyponyms that captions have and the table has not."""
    counts = Counter[str]()
    for caption in captions(data):
        words = [word for word in map(bare, caption.split()) if word]
        counts.update(words)
        counts.update(map(" ".join, itertools.pairwise(words)))
    lines, known = [], table().forms
    for name in categories():
        words = {
            word for root in MORE_SYNSETS.get(name, (name,)) for word in wordnet.hyponyms(root)
        }
        often = {word: counts[word] + counts[plural(word)] for word in words if word not in known}
        found = sorted((word for word in often if often[word]), key=lambda word: -often[word])
        lines.append(f"{name}: " + ", ".join(f"{word} {often[word]}" for word in found))
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, help="the folder of data.noun and index.noun")
    args = parser.parse_args()
    print("\n".join(shares(args.data)))
    if args.wordnet:
        print("\n".join(candidates(args.data, WordNet(args.wordnet))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
