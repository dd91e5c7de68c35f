"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.tools.disk import check_writer, hidden
from vlcam.utils.files.atomic import folder_written, recover, written


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "new" / "file"
    with pytest.raises(error), written(path):
        raise error
    assert list(tmp_path.iterdir()) == []
    with written(path) as draft:
        draft.write_text("one")
        assert not path.exists() and draft.name == "file"
    assert path.read_text() == "one"
    with pytest.raises(error), written(path) as draft:
        draft.write_text("half of tw")
        raise error
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["file"]


def texts(folder: Path) -> dict[str, str] | None:
    """All of our files; None where there is none."""
    recover(folder)
    recover(folder / "out")
    found = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "notes.txt" and ".vlcam" not in path.parts
    }
    return found or None


def one_file(folder: Path, version: int) -> None:
    with written(folder / "file") as draft:
        draft.write_text(str(version) * 200)


def one_folder(folder: Path, version: int) -> None:
    """Of several files, one in a folder of its own."""
    with folder_written(folder / "out") as draft:
        (draft / "inner").mkdir()
        for name in ("a", "b", "inner/c"):
            (draft / name).write_text(f"{name}{version}" * 200)


def into_a_folder(folder: Path, version: int) -> None:
    with folder_written(folder) as draft:
        for name in ("a", "b"):
            (draft / name).write_text(f"{name}{version}" * 200)


@pytest.mark.parametrize("write", [one_file, one_folder, into_a_folder])
def test_whatever_fails_old_or_new_is_whole(
    quick_path: Path, write: Callable[[Path, int], None]
) -> None:
    check_writer(quick_path, write, texts)


def test_what_another_program_works_on_is_left_alone(tmp_path: Path) -> None:
    with written(tmp_path / "slow") as slow:
        slow.write_text("still ")
        with written(tmp_path / "quick") as quick:
            quick.write_text("done")
        recover(tmp_path)
        assert slow.read_text() == "still "
    assert sorted(p.name for p in tmp_path.iterdir()) == ["quick", "slow"]


def test_what_is_not_a_draft_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / ".vlcam" / "theirs"
    theirs.mkdir(parents=True)
    (theirs / "precious").write_text("mine")
    one_file(tmp_path, 1)
    recover(tmp_path)
    assert hidden(tmp_path) == [".vlcam"] and (theirs / "precious").read_text() == "mine"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "file").symlink_to(tmp_path / "real" / "file")
    (tmp_path / "out").symlink_to(tmp_path / "real", target_is_directory=True)
    for version in (1, 2):
        one_file(tmp_path, version)
        one_folder(tmp_path, version)
        assert (tmp_path / "file").is_symlink() and (tmp_path / "out").is_symlink()
        assert (tmp_path / "real" / "file").read_text() == str(version) * 200
        assert (tmp_path / "real" / "inner" / "c").read_text() == f"inner/c{version}" * 200


@pytest.mark.parametrize("name", [".", "inner/..", "inner"])
def test_odd_names_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path)
    into_a_folder(Path(name), 1)
    assert Path(name, "a").read_text() == "a1" * 200 and not hidden(tmp_path)


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with written(pipe) as draft:
        draft.write_text("told")
    assert os.read(reader, 10) == b"told" and pipe.is_fifo()
    os.close(reader)
    with (
        pytest.raises(OSError, match="No space left on device: '/dev/full'"),
        written("/dev/full") as draft,
    ):
        draft.write_text("full")
    assert Path("/dev/full").is_char_device()


def test_an_error_names_the_file_as_its_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("mine")
    long = "n" * 300
    for path, number, named in (
        ("file/new", errno.ENOTDIR, "file"),
        ("file/new/newer", errno.ENOTDIR, "file"),
        ("folder", errno.EISDIR, "folder"),
        (long, errno.ENAMETOOLONG, long),
        (f"new/{long}/file", errno.ENAMETOOLONG, f"new/{long}"),
        ("/proc/file", errno.ENOENT, "/proc/file"),
    ):
        with pytest.raises(OSError) as raised, written(path) as draft:
            draft.write_text("new")
        assert (raised.value.errno, raised.value.filename) == (number, named), path
    with pytest.raises(NotADirectoryError, match="'file'"), folder_written("file"):
        pass
    for name in ("folder", "file"):  # a folder where a file is to be, and the other way round
        with pytest.raises(OSError) as raised, folder_written(".") as draft:
            if name == "file":
                (draft / "file").mkdir()
                (draft / "file" / "a").write_text("new")
            else:
                (draft / "folder").write_text("new")
            (draft / "another").write_text("new")
        assert raised.value.filename == name
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "folder" / "inner").read_text() == "mine"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left"), "[Errno 28] No space left on device: 'out/file'"),
        (OSError("8 requested and 4 written"), "out/file: 8 requested and 4 written"),
        (Exception("I/O error (os error 28)"), "[Errno 28] No space left on device: 'out/file'"),
        (
            OSError(errno.ENOENT, "x", "photo.jpg"),
            "[Errno 2] No such file or directory: 'photo.jpg'",
        ),
    ],
)
def test_an_error_without_a_name_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError) as raised, written("out/file"):
        raise error
    assert str(raised.value) == said and list(tmp_path.iterdir()) == []


def test_an_error_names_the_file_that_was_written_last(tmp_path: Path) -> None:
    """Of several, where it does not say itself."""
    with (
        pytest.raises(OSError, match=f"'{tmp_path}/out/b'"),
        folder_written(tmp_path / "out") as out,
    ):
        for number, name in enumerate(("a", "b", "c")):
            (out / name).write_text(name)
            os.utime(out / name, ns=(0, 2 - abs(1 - number)))
        raise OSError(errno.ENOSPC, "Full")


def test_an_error_in_a_draft_of_a_draft_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        file = tmp_path / name / "inner" / "file"
        with (
            pytest.raises(OSError, match=f"device: '{file}'"),
            folder_written(tmp_path / name) as outer,
            folder_written(outer / "inner") as inner,
        ):
            (inner / "file").write_text("half")
            raise OSError(errno.ENOSPC, "Full")


@pytest.mark.parametrize("link", [".vlcam", ".vlcam/draft-1", ".vlcam/draft-1/lock", "inner"])
def test_no_link_leads_out_of_a_folder(tmp_path: Path, link: str) -> None:
    """A folder of somebody else's may hold anything: it is read, and nothing outside is touched."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    draft = folder / ".vlcam" / "draft-1"
    (draft / "whole" / "inner").mkdir(parents=True)
    (draft / "whole" / "inner" / "file").write_text("theirs")
    (draft / "whole" / "inner" / "other").write_text("theirs")
    (outside / "file").write_text("mine")
    place = folder / link
    if place.is_dir():
        place.rename(outside / place.name)
        place.symlink_to(outside / place.name, target_is_directory=True)
    else:
        place.symlink_to(outside if link == "inner" else outside / "file")
    before = sorted(path for path in outside.rglob("*"))
    with suppress(OSError):
        recover(folder)
    assert sorted(path for path in outside.rglob("*")) == before
    assert (outside / "file").read_text() == "mine"
