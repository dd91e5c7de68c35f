"""``vlcam methods``: the attribution methods there are. Light to import."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    from vlcam.attribution import methods

    for method in methods.every():
        print(f"{method.name:23} {method.reference}")
    return 0
