"""``vlcam evaluate faithfulness``. Light to import.

What maps are of, a caption's words or a question's answers, is a :class:`Subject` of some package,
registered as an entry point of the group ``vlcam.faithfulness``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlcam.cli import early, evaluate
from vlcam.cli.early import count
from vlcam.utils.registered import registered

if TYPE_CHECKING:
    from vlcam.attribution.occlusion import Patch
    from vlcam.evaluation.experiment import Experiment

GROUP = "vlcam.faithfulness"


@dataclass(frozen=True)
class Subject:
    """What the faithfulness of maps is measured on.

    Attributes:
        option: the option that names the folder of its data, without dashes.
        help: what that is, in a line.
        add_arguments: adds the options that only this subject has.
        experiment: from the command line, the patch that covers the photo and whether deletion and
            insertion are measured.
        check: raises ValueError where the command line shows at once that there is no such data.
    """

    option: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    experiment: Callable[[argparse.Namespace, Patch, bool], Experiment]
    check: Callable[[argparse.Namespace], object] = lambda args: None

    @property
    def name(self) -> str:
        """Its option, which no other subject may have."""
        return self.option


def subjects() -> list[Subject]:
    """All registered subjects, by the names of their entry points."""
    return registered(GROUP, Subject)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    known = subjects()
    one_of = parser.add_mutually_exclusive_group(required=True)
    for subject in known:
        one_of.add_argument(
            f"--{subject.option}", metavar="DIR", type=early.folder, help=subject.help
        )
    for subject in known:
        subject.add_arguments(parser)
    add = parser.add_argument
    add("--patch-size", metavar="PIXELS", type=count, default=45, help="default: 45")
    add("--patch-stride", metavar="PIXELS", type=count, default=16, help="default: 16")
    add("--no-curves", action="store_true", help="leave out deletion and insertion, to save time")
    evaluate.add_arguments(parser, "faithfulness")


def run(args: argparse.Namespace) -> int:
    (subject,) = (one for one in subjects() if getattr(args, one.option) is not None)

    def experiment() -> Experiment:
        from vlcam.attribution.occlusion import Patch

        patch = Patch(args.patch_size, args.patch_stride)
        return subject.experiment(args, patch, not args.no_curves)

    return evaluate.run(args, experiment, lambda: subject.check(args))
