"""The command line. Nothing heavy is imported before a sub-command needs it."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from vlcam.cli.arguments import DEVICE, count
from vlcam.utils.errors import flat, one_line

_TRAINERS = {
    "captioner": ("captioning.commands.train_captioner", "Train a captioner."),
    "vqa": ("vqa.commands.train_vqa", "Train a VQA model."),
    "densecap": (
        "captioning.commands.train_densecap",
        "Train a dense captioner, which finds regions and describes them.",
    ),
}
"""What ``vlcam train`` can train: a module with ``add_arguments`` and ``run``, and its help."""

_EVALUATIONS = {
    "words": (
        "captioning.commands.evaluate_words",
        "Do words' maps point at what the words name? On COCO.",
    ),
    "regions": ("captioning.commands.evaluate_regions", "The box ratio of region captions."),
    "faithfulness": (
        "vlcam.cli.faithfulness",
        "Do maps tell the truth about the model? Occlusion, deletion and insertion.",
    ),
    "attention": (
        "vqa.commands.evaluate_attention",
        "How a VQA model's maps agree with where people looked.",
    ),
}
"""What ``vlcam evaluate`` can evaluate: module and help, as of the trainers."""

_WRITERS = {
    "regions": ("captioning.commands.regions", "Find regions of photos and describe each."),
    "scenes": ("vlcam.cli.scenes", "Write rendered scenes in which everything is known."),
    "questions": ("vqa.commands.questions", "Make questions of captions with marked phrases."),
}
"""Commands that write data: module and help, as of the trainers."""

_WIDEST_BEAM = 100
"""Wider ones need much memory, and captions hardly change from 5 on."""

_MOST_ANSWERS = 100
"""More would make an unreadable page."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 where something failed, 2 for a wrong command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a caption may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    args = _parser(argv).parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has had enough; nor may Python's last flush complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        _complain(one_line(error))
        return 1


class _Parser(argparse.ArgumentParser):
    """Tells in one line what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{flat(f'{self.prog}: {message}')} (see {self.prog} --help)\n")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="vlcam",
        description="Where an image captioner or a VQA model looked for its words and answers.",
        epilog="vlcam COMMAND --help tells more of a command.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show where in the code an error arose")

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[debug])
        added.set_defaults(run=run)
        return added

    text = "Caption photos, or ask about them, and explain each word or answer."
    _explain_arguments(command("explain", text, _explain))
    text = "Explain one photo at many layers, to see how maps change with depth."
    _layers_arguments(command("layers", text, _layers))
    demo = command(
        "demo",
        "Explain captions and answers of a handful of bundled scenes, with an index page.",
        _demo,
    )
    demo.add_argument("--out", metavar="DIR", type=Path, default=Path("demo"), help="default: demo")
    models = command(
        "models", "List the models there are, or say what a file or folder is.", _models
    )
    models.add_argument(
        "path", metavar="PATH", nargs="?", help="a file, a folder or a name: which model is it?"
    )
    models.add_argument("--markdown", action="store_true", help="the families, as README has them")
    text = "Rewrite a checkpoint as safetensors and JSON, in a new folder."
    converting = command("convert", text, _convert)
    converting.add_argument("model", metavar="PATH", help="see vlcam models")
    converting.add_argument("out", metavar="OUT", type=Path, help="the new folder")
    command("methods", "List the methods there are.", _methods)
    for name, (module, about) in _WRITERS.items():
        writer = commands.add_parser(name, parents=[debug], help=about, description=about)
        if name in argv[:1]:
            _mount(writer, module)
    for name, text, kinds in (
        ("train", "Train a model.", _TRAINERS),
        ("evaluate", "Measure how far maps can be trusted.", _EVALUATIONS),
    ):
        group = commands.add_parser(name, help=text, description=text)
        members = group.add_subparsers(metavar="|".join(kinds), required=True)
        for kind, (module, about) in kinds.items():
            member = members.add_parser(kind, parents=[debug], help=about, description=about)
            if name in argv[:1] and kind in argv:  # no other command imports its package
                _mount(member, module)
    return parser


def _mount(parser: argparse.ArgumentParser, module: str) -> None:
    command = import_module(module)
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)


def _layers_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", help="JPEG, PNG, WebP, ...")
    _model_argument(parser)
    _asking_arguments(parser)
    parser.add_argument(
        "--layers",
        metavar="NAME",
        nargs="+",
        help="default: the CNN's blocks and poolings, in order",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("layers"),
        help="layers.png and a folder for each layer go into DIR/<photo>; default: layers",
    )


def _model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", metavar="NAME|FILE", default="scenes", help="see vlcam models; default: scenes"
    )


def _explain_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="JPEG, PNG, WebP, ...")
    parser.add_argument(
        "--model",
        metavar="NAME|FILE",
        action="append",
        help="see vlcam models; default: scenes; give it again to see models side by side",
    )
    _asking_arguments(parser)
    parser.add_argument(
        "--target",
        choices=("word", "caption"),
        default="word",
        help="a map for each word, or one for the whole caption; default: word",
    )
    parser.add_argument("--layer", metavar="NAME", help="the explained layer; default: the model's")
    parser.add_argument(
        "--size",
        metavar="PIXELS",
        type=count,
        help="height and width photos are stretched to, of a CNN that takes any: a larger one"
        " gives finer maps; default: the model's",
    )
    parser.add_argument("--device", metavar="NAME", help=DEVICE)
    parser.add_argument(
        "--beam", metavar="N", type=_beam, default=1, help="width of the beam; default: 1"
    )
    for name, text in (
        ("size", "side of the square that --method occlusion covers the input with; default: 45"),
        ("stride", "from one place of it to the next; default: 8"),
    ):
        option = f"--patch-{name}"
        parser.add_argument(option, metavar="PIXELS", type=count, help=text)
    parser.add_argument(
        "--patch-fill",
        metavar="VALUE",
        type=_number,
        help="its value, in units of normalised pixels; default: 0, the mean colour",
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse a caption with words the model does not know"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("explained"),
        help="a folder for each photo goes in here; default: explained",
    )


def _asking_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--caption", metavar="TEXT", help="explain this one, not the model's own")
    parser.add_argument("--question", metavar="TEXT", help="ask a VQA model this instead")
    parser.add_argument(
        "--answers", metavar="TEXT", nargs="+", help="explain these answers, not the likeliest ones"
    )
    parser.add_argument(
        "--top", metavar="K", type=_top, default=5, help="explain the K likeliest; default: 5"
    )
    parser.add_argument(
        "--contrast", metavar=("A", "B"), nargs=2, help="explain why answer A rather than B"
    )
    parser.add_argument(
        "--method", metavar="NAME", default="grad-cam", help="see vlcam methods; default: grad-cam"
    )


def _beam(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _WIDEST_BEAM:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 to {_WIDEST_BEAM}")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST_ANSWERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 to {_MOST_ANSWERS}")
    return int(text)


def _checked(args: argparse.Namespace) -> str:
    """The kind of model that is asked; ValueError for options that do not go together."""
    for name in ("caption", "question"):
        text = getattr(args, name)
        if text is not None and not text.strip():
            raise ValueError(f"--{name} is empty: give at least one word")
    if args.caption is not None and args.question is not None:
        raise ValueError("--caption and --question: give one of them")
    if args.question is None and (args.answers or args.contrast):
        raise ValueError("--answers and --contrast go with a --question")
    return "captioner" if args.question is None else "vqa"


def _explain(args: argparse.Namespace) -> int:
    from vlcam.attribution import methods
    from vlcam.attribution.occlusion import Patch
    from vlcam.cli.batch import Asked, compare, explain_photos
    from vlcam.models import load

    kind = _checked(args)
    # Refused before a model is loaded.
    patch = {
        name: value
        for name in ("size", "stride", "fill")
        if (value := getattr(args, f"patch_{name}")) is not None
    }
    method = methods.get(args.method)
    if method.at != "patches" and patch:
        raise ValueError(f"--patch-{next(iter(patch))} goes with --method occlusion")
    names = args.model or ["scenes"]
    size = (args.size, args.size) if args.size else None
    models = [(name, load(name, args.layer, kind, size, args.device)) for name in names]
    asked = Asked(
        args.caption,
        args.question,
        tuple(args.answers) if args.answers else None,
        tuple(args.contrast) if args.contrast else None,
        args.top,
        args.method,
        args.target,
        args.beam,
        args.strict,
        Patch(**patch) if patch else None,
    )
    if len(models) > 1:
        done = compare(models, args.photos, asked, args.out, _complain, args.debug)
    else:
        done = explain_photos(models[0][1], args.photos, asked, args.out, _complain, args.debug)
    failed = done.failed
    if method.caveat and len(failed) < len(args.photos):
        print(method.caveat)
    if failed and len(args.photos) > 1:  # of a single photo, all has been said
        _complain(f"{len(failed)} of {len(args.photos)} photos failed: {', '.join(failed)}")
    return 1 if failed else 0


def _layers(args: argparse.Namespace) -> int:
    from vlcam.cli.batch import stem
    from vlcam.cli.layers import depths, sweep, write
    from vlcam.models import load

    kind = _checked(args)
    asked = {"question": args.question, "answers": args.answers, "top": args.top}
    asked = {"caption": args.caption} if args.question is None else asked
    if args.contrast:
        asked["contrast"] = tuple(args.contrast)
    layers = args.layers or depths(load(args.model, kind=kind))
    found = sweep(
        lambda layer: load(args.model, layer, kind), layers, args.photo, args.method, **asked
    )
    write(found, args.out / stem(args.photo))
    print(f"{args.photo}: {found[0].text}")
    for explanation in found:
        told = (f"{item.text} {item.peak[0]},{item.peak[1]}" for item in explanation.items)
        print(f"  {explanation.layer:20} {'  '.join(told)}")
    print(f"  -> {args.out / stem(args.photo) / 'layers.png'}")
    return 0


def _demo(args: argparse.Namespace) -> int:
    from vlcam.cli.demo import demo

    where = demo(args.out, _complain, args.debug)
    print(f"\nOpen {where} in a browser.")
    return 0


def _models(args: argparse.Namespace) -> int:
    from vlcam.models import families, table

    if args.path is not None:
        return _model(args.path)
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


def _model(name: str) -> int:
    """Says what a file, a folder or a name is."""
    from vlcam.models import find

    family, path = find(name)
    model = family.load(path, None)
    count = sum(parameter.numel() for parameter in model.module.parameters())
    print(f"{name}: {family.name}, {family.kind}: {family.reference}")
    print(f"  {'name':20} {model.name}")
    print(f"  {'parameters':20} {count:,}")
    print(f"  {'layer':20} {model.layer} (default)")
    for key, value in model.describe().items():
        print(f"  {key:20} {value}")
    return 0


def _convert(args: argparse.Namespace) -> int:
    from vlcam.cli.convert import convert

    family = convert(args.model, args.out)
    print(f"{args.model}: {family.name} -> {args.out}")
    return 0


def _methods(args: argparse.Namespace) -> int:
    from vlcam.attribution.methods import METHODS

    for method in METHODS.values():
        print(f"{method.name:23} {method.reference}")
    return 0


def _complain(message: str) -> None:
    print(f"vlcam: {flat(message)}", file=sys.stderr)
