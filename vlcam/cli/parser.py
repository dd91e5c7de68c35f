"""The command line's entrance. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

import vlcam
from vlcam.cli import commands
from vlcam.cli.argument_parser import Parser
from vlcam.cli.arguments import complain
from vlcam.cli.commands import Command
from vlcam.formats.hub.consent import agreed
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import interrupt, progress


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 where something failed, 2 for a wrong command line.

    Args:
        argv: what is behind ``vlcam``; None: this program's, and Ctrl-C ends it within a second.
    """
    if argv is not None:
        return _run(list(argv))
    interrupt.end_at_once()
    code = _run(sys.argv[1:])
    if code == interrupt.EXIT_CODE:
        interrupt.leave()
    return code


def _run(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a caption may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    debug = "--debug" in argv
    try:
        args = parser(argv).parse_args(argv)
        with agreed(getattr(args, "yes", False)), progress.shown():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return interrupt.EXIT_CODE
    except BrokenPipeError:
        _close_output()  # whoever read it has had enough
        return 141
    # Torch says with a RuntimeError what does not fit, or that memory is used up.
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if debug:
            raise
        complain(_told(error))
        return 1


def _told(error: Exception) -> str:
    """In one line; an error of writing that names no file is about what was printed."""
    line = one_line(error)
    if isinstance(error, OSError) and error.filename is None and error.errno in _FULL:
        _close_output()
        return f"standard output: {line}"
    return line


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def _close_output() -> None:
    """Nor may Python's last flush complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line: of all commands, those it names have their arguments."""
    found = Parser(
        prog="vlcam",
        description="Where an image captioner or a VQA model looked for its words and answers.",
        epilog="vlcam COMMAND --help tells more of a command.",
    )
    found.add_argument(
        "--version", action=_Version, nargs=0, help="show program's version number and exit"
    )
    members = found.add_subparsers(metavar="COMMAND", required=True)
    for command in commands.commands():
        _add(members, command, given=command.name in argv[:1])
    for name, text, group in (
        ("train", "Train a model.", commands.TRAINERS_GROUP),
        ("evaluate", "Measure how far maps can be trusted.", commands.EXPERIMENTS_GROUP),
    ):
        kinds = commands.kinds(group)
        branch = members.add_parser(name, help=text, description=text)
        inner = branch.add_subparsers(metavar="|".join(kind.name for kind in kinds), required=True)
        for kind in kinds:
            _add(inner, kind, given=name in argv[:1] and kind.name in argv)
    return found


def _add(members: argparse._SubParsersAction[Parser], command: Command, given: bool) -> None:
    """A command's parser; one that is not given needs no arguments, and its module no import."""
    text = command.help.replace("%", "%%")  # argparse fills in what stands behind one
    added = members.add_parser(command.name, help=text, description=text)
    added.add_argument("--debug", action="store_true", help="show where in the code an error arose")
    if given:
        command.mount(added)


class _Version(argparse.Action):
    """Prints the version and ends; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"vlcam {vlcam.__version__}")
        parser.exit()
