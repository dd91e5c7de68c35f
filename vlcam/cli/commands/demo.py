"""``vlcam demo``: bundled models on real photos and on rendered scenes, with an index."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlcam.cli.arguments import complain
from vlcam.utils.files.outputs import check_folder

if TYPE_CHECKING:
    from vlcam.cli.batch import Found, Tell

OF_PHOTOS = "photos"
"""The bundled models that explain the real photos."""


@dataclass(frozen=True)
class Exhibit:
    """Some photos that one captioner and one VQA model explain.

    Attributes:
        heading, text: above them in the index.
        model: the name of both bundled models.
        package, folder: where the photos lie.
        asked: of each photo, by its name, what a :class:`vlcam.explaining.Request` asks of it.
    """

    heading: str
    text: str
    model: str
    package: str
    folder: str
    asked: dict[str, dict[str, Any]]

    @property
    def photos(self) -> Traversable:
        """The folder of the photos, as it is installed: nothing is fetched."""
        return resources.files(self.package).joinpath(self.folder)


EXHIBITS = (
    Exhibit(
        "Real photos",
        "They come with scikit-image, and no model has seen them before.",
        OF_PHOTOS,
        "skimage",
        "data",
        {
            "astronaut.png": {"question": "what color is the suit?"},
            "camera.png": {"question": "who is taking a picture?"},
            "chelsea.png": {"question": "what color is the cat?"},
            "coffee.png": {"question": "where is the cup?"},
            "motorcycle_left.png": {"question": "what color is the motorcycle?"},
        },
    ),
    Exhibit(
        "Rendered scenes",
        "They are drawn by a program, and their models know nothing but such drawings.",
        "scenes",
        "vlcam",
        "bundled/photos",
        {
            "car-boat.jpg": {"question": "where is the boat?"},
            "cat-horse-sheep.jpg": {"question": "what is on the left?"},
            "dog-pizza-cup-sheep.jpg": {"question": "what color is the cup?"},
            "dogs-clock.jpg": {"question": "how many dogs are there?"},
            # Fig. 12a of the paper: where would it have looked to say one colour, or the other?
            "hydrant-bicycle.jpg": {
                "question": "what color is the fire hydrant?",
                "answers": ("green and red", "green", "red"),
            },
            "stop-sign-traffic-light-pizza.jpg": {"question": "is there a pizza in the picture?"},
        },
    ),
)
"""What is shown, in this order."""

INTRO = (
    "A captioner wrote a caption of each photo below, and another model answered a question about"
    " it. Some captions and answers are wrong, and that is why one looks: each word, and each"
    " answer, has a map of where in the photo the model found support for it, which shows what it"
    " took for what. Open one and point at its words or answers."
)

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
    """Explain the captions of :data:`EXHIBITS` in ``out/<photo>/``, an answer to a question about
    each in ``out/answers/<photo>/``; returns the path of the index page.

    Raises:
        ValueError: a photo failed.
    """
    check_folder(out)
    from vlcam.cli.batch import TITLE, cards
    from vlcam.explanation.page import Section, index
    from vlcam.utils.files.atomic import written

    sections = [
        Section(one.heading, cards(explain(one, out, tell, debug), out), one.text)
        for one in EXHIBITS
    ]
    with written(out / "index.html") as draft:
        draft.write_text(index(TITLE, INTRO, sections), "utf-8")
    return out / "index.html"


def explain(exhibit: Exhibit, out: Path, tell: Tell, debug: bool = False) -> list[Found]:
    """Explain one exhibit; each photo's answer behind its caption."""
    from vlcam.cli.batch import Found, explain_photos
    from vlcam.explaining import Request
    from vlcam.models import load

    found, failed = list[Found](), list[str]()
    captioner = load(exhibit.model, kind="captioner")
    answerer = load(exhibit.model, kind="vqa")
    with resources.as_file(exhibit.photos) as photos:
        for name, asked in exhibit.asked.items():
            for model, request, into in (
                (captioner, Request(), out),
                (answerer, Request(**asked), out / ANSWERS),
            ):
                photo = [str(photos / name)]
                done = explain_photos(model, photo, request, into, tell=tell, debug=debug)
                found, failed = found + done.found, failed + done.failed
    if failed:
        raise ValueError(f"{len(failed)} explanations of photos of the demo failed")
    return found
