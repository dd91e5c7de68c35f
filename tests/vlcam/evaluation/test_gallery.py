"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import captioning
from captioning.experiments.words import Words
from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.evaluation import gallery, runner
from vlcam.evaluation.experiment import Item
from vlcam.evaluation.store import opened


def test_a_caption_that_is_written_otherwise_by_itself_is_not_shown(
    scenes: Path, tmp_path: Path
) -> None:
    class Hesitant(Words):
        def write(self, model: Adapter, photos: Sequence[Encoded]) -> Sequence[Any]:
            written = super().write(model, photos)
            return written if len(photos) > 1 else [(), *written[1:]]

    shown = []
    for kind in (Words, Hesitant):
        experiment = kind(scenes, captions="generated")
        work = runner.Work(experiment, (methods.get("grad-cam"),))
        model = captioning.load("scenes")
        with opened(tmp_path / kind.__name__, {}, Words.columns, False) as store:
            runner.run(work, model, store)
            found, _ = runner.read_all(work, store)
        shown.append(list(gallery.pictures(experiment, model, work.methods[0], found)))
    assert len(shown[0]) >= 4 and shown[1] == []


def test_captions_say_what_is_shown_and_what_it_is_worth() -> None:
    words: Words = Words.__new__(Words)
    record = {"word": "bus", "inside": 0.664, "map": "grad-cam"}
    told = gallery._caption(words, record, Item("23", Path("23.jpg")))
    assert told == "“bus” on photo 23: 66% of the map lies inside the outline"
    about = gallery.about(words, methods.get("grad-cam"))
    assert (
        about.startswith("Maps by grad-cam") and "“… of the map lies inside the outline”" in about
    )
    assert "green line surrounds what the map should be on" in about
