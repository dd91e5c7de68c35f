"""Photos explained one after the other, each into a folder of its own: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vlcam.adapters.adapter import Adapter
from vlcam.cli.any_photo import AnyPhoto
from vlcam.cli.arguments import stem
from vlcam.explaining import Request, explain_request
from vlcam.explanation import no_map, saving
from vlcam.explanation.explanation import Explanation
from vlcam.explanation.page import Section, compared, index
from vlcam.utils.files.atomic import folder_written, recover, written
from vlcam.utils.files.text_files import read_json
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress

FILES = ("explanation.json", "maps.npz", "figure.png", "page.html")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Found:
    """A photo that was explained.

    Attributes:
        photo: its path, as given.
        folders: of its explanations: one for each of those that were compared.
        page: to be opened first.
    """

    photo: str
    folders: Sequence[Path]
    page: Path


@dataclass
class Done:
    """What came of a batch: the photos that were explained, and those that were not."""

    found: list[Found] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def explained(self) -> list[Path]:
        """The folders of explanations."""
        return [folder for one in self.found for folder in one.folders]


def explain_photos(
    model: Adapter,
    photos: Sequence[str],
    request: Request,
    *outs: Path,
    tell: Tell,
    debug: bool = False,
) -> Done:
    """Explain photos and write each one's :data:`FILES` to ``out/<stem>/``.

    A photo that fails is reported, and the batch goes on, unless it would be so with any photo: a
    plain picture fails alike, or nothing can be written to ``out``. A folder that holds another
    photo's explanation, or anything else, is left alone: ``<stem>-2`` is taken, and reported.

    Args:
        outs: where the explanations go, a folder for each of the request's methods.
        tell: called with each complaint.
        debug: let the first error through instead.

    Raises:
        ValueError: the caption or question cannot be explained with this model, whatever the
            photo; or no photo can.
        OSError: nothing can be written to one of ``outs`` any more.
    """
    request.check(model)
    for out in outs:
        for folder in (out, *(out.iterdir() if out.is_dir() else ())):
            recover(folder)
    done, taken = Done(), set[Path]()
    any_photo = AnyPhoto(model, request, outs)
    for photo in progress.each(photos, "photos", unit="photo"):
        try:
            explanations = explain_request(model, photo, request)
            folders = [_folder(out, photo, taken) for out in outs]
            for explanation, folder in zip(explanations, folders, strict=True):
                write(explanation, folder)
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            if debug:
                raise
            if len(photos) > 1:
                any_photo.check(photo, error, left=len(photos) - len(done.found))
            with progress.aside():
                tell(_about(photo, error))
            done.failed.append(photo)
            continue
        taken.update(folders)
        done.found.append(Found(photo, folders, folders[0] / "page.html"))
        with progress.aside():
            if unknown := explanations[0].unknown:
                tell(f"{photo}: not in the model's vocabulary: {', '.join(unknown)}")
            for out, folder in zip(outs, folders, strict=True):
                if folder.name != stem(photo):
                    tell(f"{photo}: {out / stem(photo)} is taken, written to {folder}")
            print(told(explanations, folders), flush=True)
    return done


def compare(
    models: Sequence[tuple[str, Adapter]],
    photos: Sequence[str],
    request: Request,
    out: Path,
    *,
    tell: Tell,
    debug: bool = False,
) -> Done:
    """Ask several models the same of each photo, or explain it by several methods, or both: the
    explanations of each go into a folder of its own (``out/<model>/<method>/<photo>/``, without
    what there is one of only), and ``out/compared/<photo>.png`` and ``.html`` have them side by
    side.

    Args:
        models: each with what it is called.

    Returns:
        ``found``: the photos all of whose explanations were written, each with the page that
        compares them.

    Raises:
        ValueError: as by :func:`explain_photos`; then nothing is compared.
    """
    for _, model in models:
        request.check(model)
    photos = list(dict.fromkeys(photos))  # one named twice is compared once
    several_models, several_methods = len(models) > 1, len(request.methods) > 1
    found: dict[str, list[tuple[str, Path]]] = {photo: [] for photo in photos}
    failed: dict[str, None] = {}  # each once, in their order
    names = _distinct([model.name for _, model in models])
    for (label, model), name in zip(models, names, strict=True):
        if several_models:
            print(f"{label}:")
        top = out / name if several_models else out
        outs = [top / method if several_methods else top for method in request.methods]
        labels = [
            " · ".join([label] * several_models + [method] * several_methods)
            for method in request.methods
        ]
        done = explain_photos(model, photos, request, *outs, tell=tell, debug=debug)
        failed |= dict.fromkeys(done.failed)
        for one in done.found:
            found[one.photo] += zip(labels, one.folders, strict=True)
    whole = Done(failed=list(failed))
    for photo, columns in found.items():
        if photo not in failed:
            page = _write_compared(columns, out / "compared")
            whole.found.append(Found(photo, [folder for _, folder in columns], page))
            print(f"{photo}\n  -> {page}")
    return whole


def write_index(done: Done, out: Path, *, tell: Tell) -> Path:
    """Write ``out/index.html``, a page of all photos that were explained, which leads to their
    pages; its path.

    A file of that name that no index of ours is, or a folder, is left alone: ``index-2.html`` is
    taken, and reported.
    """
    first = Explanation.load(done.found[0].folders[0])
    failed = f"Not explained: {', '.join(done.failed)}." if done.failed else ""
    section = Section(first.question or "Captions", cards(done.found, out), failed)
    path, number = out / "index.html", 1
    while os.path.lexists(path) and not _is_index(path):
        number += 1
        path = out / f"index-{number}.html"
    if number > 1:
        tell(f"{out / 'index.html'} is taken, written to {path}")
    with written(path) as draft:
        draft.write_text(f"{index(TITLE, _INTRO, [section])}{_INDEX}\n", "utf-8")
    return path


TITLE = "Where the model looked"
_INTRO = (
    "Each word of a caption, and each answer, has a map of where in the photo the model found"
    " support for it. Open one and point at its words or answers."
)
_INDEX = "<!-- index of vlcam explain -->"
"""By its last line an index is known."""


def cards(found: Sequence[Found], out: Path) -> Iterator[tuple[Explanation, str]]:
    """Each photo's first explanation, loaded when its turn comes, and its page's path."""
    for one in found:
        path = Path(os.path.relpath(one.page, out)).as_posix()
        yield Explanation.load(one.folders[0]), path


def _is_index(path: Path) -> bool:
    return path.is_file() and path.read_bytes().endswith(f"{_INDEX}\n".encode())


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one occurs again."""
    return [
        name if names[:i].count(name) == 0 else f"{name}-{1 + names[:i].count(name)}"
        for i, name in enumerate(names)
    ]


def _write_compared(columns: Sequence[tuple[str, Path]], folder: Path) -> Path:
    """A picture and a page of one photo's explanations; the page's path."""
    explained = [(label, Explanation.load(path), path) for label, path in columns]
    name = columns[0][1].name
    pages = [
        (label, one, os.path.relpath(path / "page.html", folder)) for label, one, path in explained
    ]
    with folder_written(folder) as draft:
        from vlcam.explanation.figure import draw_rows

        figure = draw_rows([(label, one) for label, one, _ in explained])
        figure.savefig(draft / f"{name}.png", format="png")
        (draft / f"{name}.html").write_text(compared(pages), "utf-8")
    return folder / f"{name}.html"


def write(explanation: Explanation, folder: Path) -> None:
    """Write an explanation's :data:`FILES`, all or none."""
    with folder_written(folder) as draft:
        saving.write(explanation, draft)
        explanation.figure().savefig(draft / "figure.png", format="png")
        (draft / "page.html").write_text(explanation.html(), "utf-8")


def told(explanations: Sequence[Explanation], folders: Sequence[Path]) -> str:
    """What the terminal says of a photo's explanations by one or more methods: the text, each word
    or answer's probability, and where each lies."""
    first = explanations[0]
    said = first.words if first.by_word else first.answers
    words = "  ".join(f"{w.text} {w.probability:.2f}" for w in said)
    lines = [f"{first.photo}: {first.text}", f"  {words}"]
    if first.unlike:
        lines.append(f"  {first.unlike}")
    for explanation, folder in zip(explanations, folders, strict=True):
        by = f"{explanation.method}: " if len(explanations) > 1 else ""
        lines += [f"  {by}{note}" for note in no_map.notes(explanation)]
        slow = explanation.details.get("occlusion", {}).get("whole_passes_because")  # of no file
        if slow:
            lines.append(f"  {by}each patch took a whole forward pass: {slow}")
        lines.append(f"  -> {folder}")
    return "\n".join(lines)


def _folder(out: Path, photo: str, taken: set[Path]) -> Path:
    """``out/<stem>``, or with a number behind where that holds anything but this photo's files."""
    name, number = stem(photo), 1
    folder = out / name
    while folder in taken or (folder.exists() and not _is_of(folder, photo)):
        number += 1
        folder = out / f"{name}-{number}"
    return folder


def _is_of(folder: Path, photo: str) -> bool:
    """Whether the folder holds just an explanation of that photo, made before."""
    recover(folder)
    try:
        before = read_json(folder / FILES[0])
    except ValueError:
        return False
    return (
        isinstance(before, dict)
        and before.get("photo") == photo
        and {p.name for p in folder.iterdir()} <= set(FILES)
    )


def _about(photo: str, error: Exception) -> str:
    """One line that names the photo, which the error may do already."""
    line = one_line(error)
    return line if line.startswith(f"{Path(photo)}:") else f"{photo}: {line}"
