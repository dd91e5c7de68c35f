"""Where a batch writes its folders, what it leaves alone, and what it tells."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import pytest

from tests.samples import by_hand
from tests.samples.tiny import TinyCaptioner, photo
from tests.tools.command_line import OF_SCENES, PHOTO, PHOTOS, below, called
from vlcam.cli import batch
from vlcam.cli.batch import FILES, explain_photos
from vlcam.cli.parser import main
from vlcam.explaining import Request
from vlcam.explanation.explanation import Explanation
from vlcam.photo.loading import load_photo

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


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError])
def test_an_error_of_the_model_is_told_once(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """With how many photos it left; but for numbers, it comes of a plain picture too."""
    names = [str(save(f"{number}.png")) for number in range(5)]
    asked: list[object] = []

    def broken(model: object, photo: object, request: object) -> list[Explanation]:
        asked.append(photo)
        if photo == names[0]:
            return [by_hand.explanation(photo=names[0])]
        raise error(f"shapes (1x{len(asked)}) and (7x2) cannot be multiplied")

    for module in ("batch", "any_photo"):
        monkeypatch.setattr(f"vlcam.cli.{module}.explain_request", broken)
    with pytest.raises(ValueError, match=r"tiny: shapes .* any photo: 4 are not explained"):
        run(*names)
    assert told == [] and len(asked) == 3 and everything("out") == ["0"]


def test_an_error_of_a_photo_is_told_of_that_photo(run: Run, told: list[str]) -> None:
    """However many have the same."""
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        Path(name).write_text("no photo")
    save("last.png")
    assert run(*names, "last.png") == ["out/last"]
    assert [line.split(":")[0] for line in told] == names


def test_a_full_disk_is_told_once(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [str(save(f"{number}.png")) for number in range(5)]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/1/maps.npz")
    monkeypatch.setattr(batch, "write", fails(full))
    lasting = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out")
    monkeypatch.setattr("vlcam.cli.any_photo.check_folder", fails(lasting))
    with pytest.raises(OSError, match="out: No space left on device: 5 photos are not explained"):
        run(*names)
    assert told == []


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
    assert run("dog.png") == [] and told == ["dog.png: out: Not a directory"]
    assert Path("out").read_text() == "mine"


def test_folders_have_the_usual_rights(run: Run) -> None:
    save("dog.png")
    before = os.umask(0o027)
    try:
        run("dog.png")
    finally:
        os.umask(before)
    assert Path("out/dog").stat().st_mode & 0o777 == 0o750


def test_a_batch_goes_on_and_says_at_the_end_which_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, out = tmp_path / "empty.jpg", tmp_path / "out"
    empty.touch()
    photos = [empty, PHOTOS[0], tmp_path, PHOTOS[1]]
    assert called("explain", *photos, *OF_SCENES, "--caption", "a dog", "--out", out) == 1
    told = capsys.readouterr()
    first, second, last = told.err.splitlines()
    assert str(empty) in first and f"{tmp_path}: " in second
    assert last == f"vlcam: 2 of 4 photos failed: {empty}, {tmp_path}"
    written = [f"{p.stem}/{file}" for p in PHOTOS[:2] for file in FILES]
    assert below(out) == sorted(["index.html", *(p.stem for p in PHOTOS[:2]), *written])
    assert [line for line in told.out.splitlines() if "->" in line] == [
        f"  -> {out / photo.stem}" for photo in PHOTOS[:2]
    ]


def _broken(error: BaseException) -> Callable[..., Any]:
    def breaks(*_: object, **__: object) -> None:
        raise error

    return breaks


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("pathlib.Path.replace", FULL),
        ("pathlib.Path.write_text", FULL),
        ("numpy.lib.format.write_array", FULL),
        ("vlcam.explanation.explanation.Explanation.figure", FULL),
        ("vlcam.explanation.explanation.Explanation.html", FULL),
        ("numpy.lib.format.write_array", KeyboardInterrupt()),
        ("vlcam.explanation.explanation.Explanation.html", KeyboardInterrupt()),
    ],
)
def test_a_write_that_breaks_off_leaves_all_as_it_was(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    error: BaseException,
) -> None:
    """Neither a new folder, nor half of one, nor a draft; what was there before stays whole."""
    command = ("explain", PHOTO, *OF_SCENES, "--caption", "a dog", "--target", "caption", "--out")
    old, new = tmp_path / "old", tmp_path / "new"
    folder = old / PHOTO.stem
    folder.mkdir(parents=True)
    (folder / "explanation.json").write_text(json.dumps({"photo": str(PHOTO)}))
    (folder / "page.html").write_text("before")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(broken, _broken(error))
    codes = [called(*command, old), called(*command, new)]
    told = capsys.readouterr()
    if error is FULL:
        assert codes == [1, 1]
        for line, out in zip(told.err.splitlines(), (old, new), strict=True):
            assert line.startswith(f"vlcam: {PHOTO}: {out / PHOTO.stem}")
            assert line.endswith(": No space left on device") and ".vlcam" not in line
    else:
        assert codes == [130, 130] and told.err == ""
    monkeypatch.undo()
    assert told.out == "" and below(new) == []
    assert below(old) == [PHOTO.stem, *(f"{PHOTO.stem}/{name}" for name in sorted(before))]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_ctrl_c_stops_a_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "vlcam.explanation.explanation.Explanation.html", _broken(KeyboardInterrupt())
    )
    command = ("explain", *PHOTOS[:2], *OF_SCENES, "--caption", "a dog", "--out", tmp_path)
    assert called(*command) == 130
    assert capsys.readouterr() == ("", "") and below(tmp_path) == []


def test_models_side_by_side(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    (tmp_path / "bad.png").write_bytes(b"no photo")
    models = [part for folder in answerers for part in ("--model", str(folder))]
    ask = ["--question", "the red dog", "--answers", "red", "two", "--out", str(out)]
    names = [str(two_photos[0]), str(tmp_path / "bad.png"), str(two_photos[1])]
    assert main(["explain", *names, *models, *ask]) == 1
    told, err = capsys.readouterr()
    assert "1 of 3 photos failed" in err and told.count("compared") == 2
    compared = sorted(path.name for path in (out / "compared").iterdir())
    assert compared == ["one.html", "one.png", "two.html", "two.png"]
    for folder in answerers:
        data = json.loads((out / folder.name / "one" / "explanation.json").read_text())
        assert data["model"] == folder.name
        assert [answer["text"] for answer in data["answers"]] == ["red", "two"]
    page = (out / "compared" / "one.html").read_text("utf-8")
    assert page.count("<section>") == 2 and page.count('<li class="card">') == 4 + 3
    for folder in answerers:
        link = f"../{folder.name}/one/page.html"
        assert f'href="{link}"' in page and (out / "compared" / link).is_file()


def test_one_model_twice_has_two_folders(two_photos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    twice = ["--model", "scenes", "--model", "scenes", "--caption", "a dog", "--out", str(out)]
    assert main(["explain", str(two_photos[0]), *twice]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["compared", "scenes", "scenes-2"]


def test_an_answer_one_model_lacks_is_refused_before_anything_is_written(
    answerers: list[Path],
    two_photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = [part for folder in answerers for part in ("--model", str(folder))]
    ask = ["--question", "dog", "--answers", "dog", "--out", str(tmp_path / "out")]
    assert main(["explain", str(two_photos[0]), *models, *ask]) == 1
    assert "'dog' is no answer of lstm-cnn" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


ODD = ["<b>&'.png", 'a b#1%20"q"?.png', "a:b.png", "café 🐕.png", "caf\udce9.png", "index.html.png"]


def linked(index: Path) -> list[Path]:
    """The files that an index leads to."""
    links = re.findall(r'<a class="card" href="([^"]*)"', index.read_text("utf-8"))
    found = [index.parent / os.fsdecode(unquote_to_bytes(link)) for link in links]
    assert all(
        path.is_file() and not urlsplit(link).scheme
        for path, link in zip(found, links, strict=True)
    )
    return found


def test_several_photos_have_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever they are called: each that was explained is led to, the others are named."""
    monkeypatch.chdir(tmp_path)
    for name in ODD:
        save(name)
    Path("<i>.png").write_bytes(b"no photo")
    ask = (*OF_SCENES, "--caption", "a dog", "--target", "caption", "--out", "out")
    assert called("explain", ODD[0], *ask) == 0 and not Path("out/index.html").exists()
    assert called("explain", ODD[0], "<i>.png", *ODD[1:], *ask) == 1
    told, err = capsys.readouterr()
    assert told.endswith("\nOpen out/index-2.html in a browser.\n")
    assert "vlcam: out/index.html is taken, written to out/index-2.html\n" in err
    index = Path("out/index-2.html")
    folders = [Path("out", Path(name).stem) for name in ODD]
    assert linked(index) == [folder / "page.html" for folder in folders]
    html = index.read_text("utf-8")
    assert "<b>" not in html and "Not explained: &lt;i&gt;.png." in html
    before = index.read_bytes()
    assert called("explain", *ODD[:2], *ask) == 0  # again, in its place
    assert len(linked(index)) == 2 and index.read_bytes() != before
    assert not Path("out/index-3.html").exists()


def test_an_index_of_somebody_else_is_left_alone(
    two_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("mine")
    ask = (*OF_SCENES, "--caption", "a dog", "--target", "caption", "--out", out)
    by = ("--method", "grad-cam,layercam")
    for _ in range(2):
        assert called("explain", *two_photos, *ask, *by) == 0
    assert (out / "index.html").read_text() == "mine"
    assert sorted(path.name for path in out.glob("index*")) == ["index-2.html", "index.html"]
    pages = [out / "compared" / f"{photo.stem}.html" for photo in two_photos]
    assert linked(out / "index-2.html") == pages


def test_of_nothing_there_is_no_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"no photo")
    photos = (tmp_path / "a.png", tmp_path / "b.png")
    assert called("explain", *photos, *OF_SCENES, "--out", tmp_path / "out") == 1
    assert not (tmp_path / "out").exists() and "in a browser" not in capsys.readouterr().out
