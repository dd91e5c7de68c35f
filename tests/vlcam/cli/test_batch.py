"""Where a batch writes its folders, what it leaves alone, and what it tells."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.samples.tiny import TinyCaptioner, photo
from vlcam.cli import batch
from vlcam.cli.batch import FILES, explain_photos
from vlcam.explaining import Request
from vlcam.photo.loading import load_photo
from vlcam.utils.atomic import written
from vlcam.utils.errors import flat, one_line

RED_DOG = Request(caption="a red dog", target="caption")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> Callable[..., list[str]]:
    """Explains photos, by their names in the working folder, into ``out``; returns the folders."""
    monkeypatch.chdir(tmp_path)
    model = TinyCaptioner()

    def run(*photos: str, request: Request = RED_DOG, debug: bool = False) -> list[str]:
        done = explain_photos(model, photos, request, Path("out"), tell=told.append, debug=debug)
        assert len(done.explained) + len(done.failed) == len(photos)
        return [str(folder) for folder in done.explained]

    return run


def save(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    photo().save(path, "PNG")
    return path


def photo_of(folder: str) -> str:
    """The photo a whole folder explains."""
    assert {path.name for path in Path(folder).iterdir()} == set(FILES)
    data = json.loads((Path(folder) / "explanation.json").read_text("utf-8"))
    return str(data["photo"])


def everything(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


Run = Callable[..., list[str]]


def test_photos_of_one_name_get_folders_of_their_own(run: Run, told: list[str]) -> None:
    names = [str(save(f"{folder}/dog.png")) for folder in "abc"]
    assert run(*names) == ["out/dog", "out/dog-2", "out/dog-3"]
    assert [photo_of(folder) for folder in ("out/dog", "out/dog-2", "out/dog-3")] == names
    assert told == [
        f"{name}: out/dog is taken, written to out/dog-{number}"
        for number, name in enumerate(names[1:], start=2)
    ]


def test_a_photo_explained_again_takes_the_place_of_its_former_self(
    run: Run, told: list[str]
) -> None:
    names = [str(save(f"{folder}/dog.png")) for folder in "ab"]
    run(*names)
    (Path("out/dog-2") / "page.html").write_text("old")
    told.clear()
    assert run(names[1]) == ["out/dog-2"] and told == [
        f"{names[1]}: out/dog is taken, written to out/dog-2"
    ]
    assert (Path("out/dog-2") / "page.html").read_text("utf-8") != "old"
    assert everything("out") == ["dog", "dog-2"] and photo_of("out/dog") == names[0]


@pytest.mark.parametrize(
    "content",
    [
        {"notes.txt": "mine"},
        {"explanation.json": "[]"},
        {"explanation.json": "{"},
        {"explanation.json": "[" * 100_000},
        {"explanation.json": '{"photo": "other.png"}'},
        {"explanation.json": '{"photo": "dog.png"}', "notes.txt": "mine"},
        {},
    ],
)
def test_what_is_not_ours_is_left_alone(run: Run, content: dict[str, str]) -> None:
    save("dog.png")
    Path("out/dog").mkdir(parents=True)
    for name, text in content.items():
        Path("out/dog", name).write_text(text)
    assert run("dog.png") == ["out/dog-2"] and photo_of("out/dog-2") == "dog.png"
    assert {path.name: path.read_text() for path in Path("out/dog").iterdir()} == content


def test_a_file_of_the_folders_name_is_left_alone(run: Run) -> None:
    Path("out").mkdir()
    save("out/dog")
    assert run("out/dog") == ["out/dog-2"] and load_photo("out/dog").size == (32, 32)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("...png", "...png"),  # whose stem is the folder above
        ("..png", "..png"),  # whose stem is this folder
        (".png", ".png"),
        (".hidden.png", ".hidden"),
        ("no suffix", "no suffix"),
        ("two.dots.png", "two.dots"),
        (f"{251 * 'x'}.png", 251 * "x"),
    ],
)
def test_odd_names(run: Run, told: list[str], name: str, folder: str) -> None:
    save(name)
    assert run(name) == [f"out/{folder}"] and told == []
    assert photo_of(f"out/{folder}") == name and everything("out") == [folder]
    assert everything(".") == sorted([name, "out"])


@pytest.mark.parametrize("name", ["dog.png", "./dog.png", "a//dog.png", "a/../dog.png", "a"])
def test_a_complaint_names_the_photo_as_given_or_tidied_up_once(
    run: Run, told: list[str], name: str
) -> None:
    run(name)
    assert told == [f"{Path(name)}: no such file"]


def test_complaints_that_do_not_name_the_photo(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One letter of a message is no name of a photo called so."""
    save("a")
    monkeypatch.setattr(batch, "write", fails(ValueError("a word of\ntwo lines")))
    run("a")
    assert told == ["a: a word of two lines"]


def fails(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "out"), "out: Permission denied"),
        (RuntimeError("can't allocate memory"), "can't allocate memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_batch_goes_on(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    names = [str(save(name)) for name in ("1.png", "2.png", "3.png")]
    real = batch.write
    monkeypatch.setattr(
        batch, "write", lambda e, folder: (fails(error) if folder.name == "2" else real)(e, folder)
    )
    assert run(*names) == ["out/1", "out/3"] and told == [f"2.png: {said}"]
    with pytest.raises(type(error)):
        run(*names, debug=True)


def test_nobody_reads_any_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is no fault of a photo: the batch ends."""
    save("dog.png")
    monkeypatch.setattr("builtins.print", fails(BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        run("dog.png", "dog.png")


def test_captions_are_refused_before_any_photo(run: Run, told: list[str]) -> None:
    for request in (
        Request(caption="zebra"),
        Request(caption=""),
        Request(caption="a zebra", strict=True),
    ):
        with pytest.raises(ValueError, match=r"zebra|no word"):
            run("missing.png", request=request)
    assert told == [] and not Path("out").exists()


def test_out_is_no_folder(run: Run, told: list[str]) -> None:
    save("dog.png")
    Path("out").write_text("mine")
    assert run("dog.png") == [] and told == ["dog.png: out: File exists"]
    assert Path("out").read_text() == "mine"


def test_folders_have_the_usual_rights(run: Run) -> None:
    save("dog.png")
    before = os.umask(0o027)
    try:
        run("dog.png")
    finally:
        os.umask(before)
    assert Path("out/dog").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    with written(path) as draft:
        draft.write_text("one")
        assert not path.exists() and draft.parent == tmp_path
    assert path.read_text() == "one"
    with pytest.raises(error), written(path) as draft:
        draft.write_text("half of tw")
        raise error
    assert path.read_text() == "one" and everything(str(tmp_path)) == ["file"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\n  two"), "one two"),
        (ValueError(), "ValueError"),
        (
            OSError(errno.ENOENT, "No such file or directory", "a\nb"),
            "a b: No such file or directory",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("of another kind"), "of another kind"),
    ],
)
def test_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line and flat(line) == line
