"""The list of commands: ours here, and how those of other packages are found.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> exit code``. It is imported
when its command is given, and imports what is heavy when it runs, so that ``--help`` answers at
once. Packages register lists of :class:`Command` as entry points, one entry a package in a group:
:data:`COMMANDS_GROUP` (``vlcam NAME``), :data:`TRAINERS_GROUP` (``vlcam train NAME``) and
:data:`EXPERIMENTS_GROUP` (``vlcam evaluate NAME``).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module

from vlcam.utils.messages.errors import one_line
from vlcam.utils.registered import registered

COMMANDS_GROUP = "vlcam.commands"
TRAINERS_GROUP = "vlcam.trainers"
EXPERIMENTS_GROUP = "vlcam.experiments"


@dataclass(frozen=True)
class Command:
    """A command, or one kind of ``vlcam train`` or ``vlcam evaluate``.

    Attributes:
        name: as given on the command line.
        help: what it does, in a line.
        module: where its ``add_arguments`` and ``run`` are.
    """

    name: str
    help: str
    module: str

    def mount(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the command's arguments, and let it run the command.

        Raises:
            ValueError: the module cannot be imported, or has no ``add_arguments`` and ``run``.
        """
        try:
            command = import_module(self.module)
            command.add_arguments(parser)
            parser.set_defaults(run=command.run)
        except Exception as error:  # whatever a package of somebody else's raises when imported
            raise ValueError(
                f"command {self.name}: {self.module} cannot be used ({one_line(error)})"
            ) from error


OURS = (
    Command(
        "explain",
        "Caption photos, or ask about them, and explain each word or answer.",
        "vlcam.cli.commands.explain",
    ),
    Command(
        "layers",
        "Explain photos at many layers, or measure which layer and method are the most faithful.",
        "vlcam.cli.commands.layers",
    ),
    Command(
        "demo",
        "Explain captions and answers of real photos and of rendered scenes, with an index.",
        "vlcam.cli.commands.demo",
    ),
    Command(
        "models",
        "List the models there are, or say what a file or folder is.",
        "vlcam.cli.commands.models",
    ),
    Command(
        "convert",
        "Rewrite a checkpoint as safetensors and JSON, in a new folder.",
        "vlcam.cli.commands.convert",
    ),
    Command(
        "world",
        "Measure what a model's training photos look like, so that it tells of others.",
        "vlcam.cli.commands.world",
    ),
    Command("methods", "List the methods there are.", "vlcam.cli.commands.methods"),
)
"""The commands every installation has; those of packages come behind them."""

SCENES = (
    Command(
        "scenes",
        "Write rendered scenes in which everything is known.",
        "vlcam.cli.commands.scenes",
    ),
)
"""What vlcam itself registers as :data:`COMMANDS_GROUP`."""

FAITHFULNESS = (
    Command(
        "faithfulness",
        "Do maps tell the truth about the model? Occlusion, deletion and insertion.",
        "vlcam.cli.faithfulness",
    ),
)
"""What vlcam itself registers as :data:`EXPERIMENTS_GROUP`."""


def commands() -> list[Command]:
    """Ours, then those of installed packages.

    Raises:
        ValueError: a package's cannot be imported, or one's name is taken.
    """
    taken = [*(command.name for command in OURS), "train", "evaluate"]
    return [*OURS, *registered(COMMANDS_GROUP, Command, taken)]


def kinds(group: str) -> list[Command]:
    """What can be trained (:data:`TRAINERS_GROUP`) or evaluated (:data:`EXPERIMENTS_GROUP`)."""
    return registered(group, Command)
