"""Photos explained one after the other, each into a folder of its own: whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from vlcam.adapter import Adapter
from vlcam.explaining import TargetName, explain
from vlcam.explanation import Explanation

FILES = ("explanation.json", "maps.npz", "figure.png", "page.html")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is asked of every photo; see :func:`vlcam.explain`."""

    caption: str | None = None
    method: str = "grad-cam"
    target: TargetName = "word"
    beam: int = 1
    strict: bool = False


@dataclass
class Done:
    """What came of a batch: explanations with their folders, and the photos that failed."""

    explained: list[tuple[Explanation, Path]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def explain_photos(
    model: Adapter, photos: Sequence[str], asked: Asked, out: Path, tell: Tell, debug: bool = False
) -> Done:
    """Explain photos and write each one's :data:`FILES` to ``out/<stem>/``.

    A photo that fails is told of, and the next one gets its turn. A folder that holds another
    photo's explanation, or anything else, is left alone: ``<stem>-2`` is taken, and told of.

    Args:
        tell: called with each complaint.
        debug: let the first error through instead.
    """
    done, taken = Done(), set[Path]()
    for photo in tqdm(photos, "photos", disable=True if len(photos) < 2 else None):
        try:
            explanation = explain(
                model,
                photo,
                asked.caption,
                method=asked.method,
                target=asked.target,
                beam=asked.beam,
                strict=asked.strict,
            )
            folder = _folder(out, photo, taken)
            write(explanation, folder)
        except (ValueError, OSError) as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            with tqdm.external_write_mode():
                tell(_about(photo, error))
            done.failed.append(photo)
            continue
        taken.add(folder)
        # Maps of many large photos would not fit in memory, and nobody looks at them again.
        done.explained.append((replace(explanation, details={}), folder))
        with tqdm.external_write_mode():
            if explanation.unknown:
                tell(f"{photo}: not in the model's vocabulary: {', '.join(explanation.unknown)}")
            if folder.name != Path(photo).stem:
                tell(f"{photo}: {out / Path(photo).stem} is taken, written to {folder}")
            print(told(explanation, folder), flush=True)
    return done
