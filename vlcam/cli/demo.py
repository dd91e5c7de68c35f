"""``vlcam demo``: the bundled models on the bundled photos, captions and answers, with an index."""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.cli.arguments import complain
from vlcam.utils.outputs import check_folder

if TYPE_CHECKING:
    from vlcam.cli.batch import Tell

QUESTIONS: dict[str, dict[str, Any]] = {
    "car-boat": {"question": "where is the boat?"},
    "cat-horse-sheep": {"question": "what is on the left?"},
    "dog-pizza-cup-sheep": {"question": "what color is the cup?"},
    "dogs-clock": {"question": "how many dogs are there?"},
    # Fig. 12a of the paper: where would it have looked to say one colour, or the other?
    "hydrant-bicycle": {
        "question": "what color is the fire hydrant?",
        "answers": ("green and red", "green", "red"),
    },
    "stop-sign-traffic-light-pizza": {"question": "is there a pizza in the picture?"},
}
"""What each bundled photo is asked, by its stem."""

ANSWERS = "answers"  # the folder of the explained answers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("demo"), help="default: demo"
    )


def run(args: argparse.Namespace) -> int:
    where = demo(args.out, complain, args.debug)
    print(f"\nOpen {where} in a browser.")
    return 0


def demo(out: Path, tell: Tell, debug: bool = False) -> Path:
    """Explain the bundled photos' captions in ``out/<photo>/``, an answer to a question about each
    in ``out/answers/<photo>/``; returns the path of the index page.

    Raises:
        ValueError: a photo failed.
    """
    check_folder(out)
    from vlcam.cli.batch import explain_photos
    from vlcam.explaining import Request
    from vlcam.explanation.explanation import Explanation
    from vlcam.explanation.page import index
    from vlcam.models import load
    from vlcam.utils.atomic import written

    with resources.as_file(resources.files("vlcam") / "bundled" / "photos") as photos:
        paths = sorted(photos.iterdir())
        done = explain_photos(
            load("scenes", kind="captioner"),
            [str(path) for path in paths],
            Request(),
            out,
            tell=tell,
            debug=debug,
        )
        captions, failed = done.explained, done.failed
        model, answers = load("scenes", kind="vqa"), list[Path]()
        for path in paths:
            asked = Request(**QUESTIONS[path.stem])
            done = explain_photos(model, [str(path)], asked, out / ANSWERS, tell=tell, debug=debug)
            answers, failed = answers + done.explained, failed + done.failed
    if failed:
        raise ValueError(f"{len(failed)} explanations of bundled photos failed")
    entries = [
        [(Explanation.load(path), f"{path.relative_to(out).as_posix()}/page.html") for path in some]
        for some in (captions, answers)
    ]
    with written(out / "index.html") as draft:
        draft.write_text(index(*entries), "utf-8")
    return out / "index.html"
