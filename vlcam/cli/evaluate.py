"""Options that all of ``vlcam evaluate`` share. Light to import: ``vlcam --help`` meets it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vlcam.attribution import methods
from vlcam.cli import early
from vlcam.cli.arguments import DEVICE, methods_argument, model_argument
from vlcam.cli.early import count
from vlcam.models import find
from vlcam.utils.allocator import keep_freed_memory
from vlcam.utils.files.outputs import check_folder

if TYPE_CHECKING:
    from vlcam.evaluation.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser, out: str, limit: str = "so many photos") -> None:
    """``out``: the default folder for the results; ``limit``: of what."""
    add = parser.add_argument
    model_argument(parser)
    methods_argument(parser)
    add("--layer", metavar="NAME", help="the explained layer; default: the model's")
    add(
        "--size",
        metavar="PIXELS",
        type=count,
        help="height and width photos are stretched to, of a CNN that takes any; default: the"
        " model's",
    )
    add("--device", metavar="NAME", type=early.device, help=DEVICE)
    add("--limit", metavar="N", type=count, help=f"{limit}, chosen by --seed")
    add(
        "--seed",
        metavar="S",
        type=early.natural,
        default=0,
        help="of everything random; default: 0",
    )
    add(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path(out),
        help="for records, summary.json, .md and .tex, and report.html; default: %(default)s",
    )
    add(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="this process, or Ray Data, on this machine or a cluster; default: local",
    )
    add("--address", metavar="ADDRESS", help="of a Ray cluster; default: this machine")
    add("--workers", metavar="N", type=count, help="on Ray; default: as many as fit")
    add(
        "--gpus", metavar="SHARE", type=early.amount, default=0.0, help="of each worker; default: 0"
    )
    add(
        "--part",
        metavar="N",
        type=count,
        default=64,
        help="photos whose records are written at once: what a kill costs; default: 64",
    )
    add("--resume", action="store_true", help="go on where a run into --out was interrupted")


def _check_engine(args: argparse.Namespace) -> None:
    """Raise ValueError for options of Ray without it, or where it is not installed."""
    on_ray = [name for name in ("address", "workers", "gpus") if getattr(args, name)]
    if on_ray and args.engine != "ray":
        raise ValueError(f"--{on_ray[0]} goes with --engine ray")
    if args.engine == "ray" and find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'vlcam[ray]'")


def run(
    args: argparse.Namespace,
    experiment: Callable[[], Experiment],
    check: Callable[[], object] = lambda: None,
) -> int:
    """Evaluate; 0 if all went well. ValueError where it cannot be done.

    Args:
        check: raises it where the data show so before anything heavy is imported.
    """
    _check_engine(args)
    for name in args.methods:
        methods.get(name)
    check()
    find(args.model)
    check_folder(args.out)
    keep_freed_memory()
    from vlcam.evaluation.store import check_free

    check_free(args.out, args.resume)
    from vlcam.evaluation.evaluate import How, evaluate
    from vlcam.evaluation.ray_runner import Cluster

    cluster = Cluster(args.address, args.workers, args.gpus) if args.engine == "ray" else None
    how = How(
        model=args.model,
        methods=args.methods,
        out=args.out,
        layer=args.layer,
        size=args.size,
        resume=args.resume,
        part=args.part,
        cluster=cluster,
        device=args.device,
        yes=args.yes,
    )
    evaluate(experiment(), how)
    return 0
