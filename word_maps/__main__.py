"""``python -m word_maps CAPTIONS``: how much of some captions the table of visual words knows."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from word_maps.coverage import coverage, read_captions, report
from word_maps.words import extended, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m word_maps", description=__doc__)
    parser.add_argument("captions", type=Path, help="COCO's captions_*.json, or text, one a line")
    parser.add_argument("--table", type=Path, help="words to add, in the format of table.txt")
    parser.add_argument("--most", type=int, default=30, help="unmatched nouns shown (default 30)")
    args = parser.parse_args()
    try:
        words = extended(args.table) if args.table else table()
        captions, problems = read_captions(args.captions)
        for line in problems:
            print(f"skipped: {line}", file=sys.stderr)
        print(report(coverage(captions, words), args.most))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has had enough; nor may Python's last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ValueError as error:
        print(f"word_maps: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
