"""``vlcam models``: the models there are, and what a file or folder is. Light to import."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="a file, a folder or a name: which model is it?"
    )
    parser.add_argument("--markdown", action="store_true", help="the families as a table")


def run(args: argparse.Namespace) -> int:
    from vlcam.models import families, table

    if args.path is not None:
        return describe(args.path)
    if args.markdown:
        print(table())
        return 0
    found = families()
    for family in found:
        for name, (_, text) in family.bundled.items():
            print(f"{name:23} {text}")
    print("Files and folders of these families are recognised by their content:")
    for family in found:
        print(f"{family.name:23} {family.kind}: {family.reference}")
    return 0


def describe(name: str) -> int:
    """Says what a file, a folder or a name is."""
    from vlcam.models import find

    family, path = find(name)
    model = family.open(path)
    count = sum(parameter.numel() for parameter in model.module.parameters())
    print(f"{name}: {family.name}, {family.kind}: {family.reference}")
    print(f"  {'name':20} {model.name}")
    print(f"  {'parameters':20} {count:,}")
    print(f"  {'layer':20} {model.layer} (default)")
    for key, value in model.describe().items():
        print(f"  {key:20} {value}")
    return 0
