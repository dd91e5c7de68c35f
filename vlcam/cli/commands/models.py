"""``vlcam models``: the models there are, and what a file or folder is. Light to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlcam.cli.arguments import yes_argument
from vlcam.formats.hub import cache
from vlcam.formats.hub.download import downloaded, offered
from vlcam.formats.hub.published import Published, sized
from vlcam.models import CHAT, FOR, MATCHER, Family, families, find, published_as


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="a file, a folder or a name: which model is it?"
    )
    yes_argument(parser)
    parser.add_argument(
        "--markdown", action="store_true", help="the families, and published models, as tables"
    )


def run(args: argparse.Namespace) -> int:
    if args.path is not None:
        tell(args.path, args.yes)
    elif args.markdown:
        print(f"{families_table()}\n\n{published_table()}")
    else:
        tell_all()
    return 0


def tell_all() -> None:
    """Lists the models that come with the package, those that are one word, and the families."""
    found = families()
    print("Models that come with vlcam:")
    for family in found:
        for name, (_, text) in family.bundled.items():
            print(f"{name:14} {FOR[family.kind]:10} {text}")
    print(
        "\nPublished models of the Hugging Face hub, fetched when first used (above 500 MB you are"
        " asked, unless\nyou say --yes; memory: to explain one photo):"
    )
    print(f"{'word':14} {'for':10} {'size':7} {'memory':7} {'fetched':8} repository and licence")
    for family in found:
        for word, one in family.published.items():
            here = "yes" if cache.cached(one.repository) else "no"
            size, memory = sized(one.bytes), sized(one.memory * 1e9)
            print(
                f"{word:14} {FOR[family.kind]:10} {size:7} {memory:7} {here:8}"
                f" {one.repository}, {one.licence}"
            )
    print("\nFiles and folders of these families are recognised by their content:")
    for family in found:
        print(f"{family.name:23} {family.kind}: {family.reference}")


def tell(name: str, yes: bool = False) -> None:
    """Says what a file, a folder or a name is; of a published model that was not fetched yet, what
    is known of it.

    Args:
        yes: fetch it first.
    """
    bundled = [one for one in families() if name in one.bundled]
    for family in bundled:
        path, text = family.bundled[name]
        _tell_loaded(name, family, path)
        _row("what it knows", text)
    if bundled:
        return
    word = None if Path(name).exists() else published_as(name)
    if word is not None:
        _, published = word
        if yes:
            downloaded(published.repository, published)
        print(f"{name}: {published.about}: {published.repository} of the Hugging Face hub")
        _tell_published(name, published)
        if not cache.cached(published.repository):
            return
    _tell_loaded(name, *find(name))


def _tell_loaded(name: str, family: Family, path: Path) -> None:
    model = family.open(path)
    count = sum(parameter.numel() for parameter in model.module.parameters())
    print(f"{name}: {family.name}, {family.kind}: {family.reference}")
    _row("name", model.name)
    _row("parameters", f"{count:,}")
    _row("layer", f"{model.layer} (default)")
    for key, value in model.describe().items():
        _row(key, value)


def _tell_published(name: str, published: Published) -> None:
    here = cache.cached(published.repository)
    _row("licence", published.licence)
    _row("size", f"{sized(published.bytes)}{'' if here else _left(published)}")
    _row("memory", f"about {published.memory:g} GB to explain one photo")
    _row("figures from", published.sources)
    _row("fetched", here or f"not yet: vlcam models {name} --yes does, into {cache.place()}")


def _left(published: Published) -> str:
    """What the hub says is left to fetch, in brackets."""
    try:
        size = offered(published.repository, published).bytes
    except ValueError:
        return " (as of when this version was made; the hub cannot be asked now)"
    return f" ({sized(size or 0)} to fetch, says the hub)"


def _row(key: str, value: object) -> None:
    print(f"  {key:20} {value}")


_CALLED = {"captioner": "captioning", "vqa": "VQA", CHAT: "both", MATCHER: "image-text matching"}


def families_table() -> str:
    """The known families as a table in Markdown, captioners first."""
    order = list(FOR)
    rows = [
        f"| `{family.name}` | {_CALLED[family.kind]} | {family.reference} |"
        for family in sorted(families(), key=lambda f: (order.index(f.kind), f.name))
    ]
    return "\n".join(["| family | kind | recognised |", "| --- | --- | --- |", *rows])


def published_table() -> str:
    """The published models that are one word as a table in Markdown, captioners first."""
    order = list(FOR)
    rows = [
        (order.index(family.kind), word, family, one)
        for family in families()
        for word, one in family.published.items()
    ]
    lines = [
        f"| `{word}` | {FOR[family.kind]} | {one.repository} | {sized(one.bytes)} |"
        f" {sized(one.memory * 1e9)} | {one.licence} |"
        for _, word, family, one in sorted(rows, key=lambda row: row[:2])
    ]
    head = "| word | for | hub repository | to fetch | memory | licence |"
    return "\n".join([head, "| --- " * 6 + "|", *lines])
