"""What is no regular file is refused, and never waited for."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vlcam
import word_maps.coco
import word_maps.files
from tests.samples.adapters import ADAPTERS
from vlcam.evaluation.entities import Entities
from vlcam.explanation.explanation import Explanation
from vlcam.formats.vocabulary import Vocabulary
from vlcam.utils.files import input_files
from vlcam.utils.files.input_files import check_file, open_file, read_bytes
from vlcam.utils.files.text_files import read_json, read_text

READERS: list[Callable[[Path], object]] = [check_file, open_file, read_bytes]


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """A test that waits for a pipe fails, rather than wait for ever."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refusal(read: Callable[[Path], object], path: Path) -> str | None:
    with pytest.raises(OSError) as caught:
        read(path)
    assert caught.value.filename in (path, str(path))
    return caught.value.strerror


@pytest.mark.parametrize("read", READERS)
def test_other_kinds_of_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refusal(read, tmp_path / "socket") == "a socket, not a file"
    assert refusal(read, tmp_path / "pipe") == "a pipe, not a file"
    assert refusal(read, tmp_path / "link") == "a pipe, not a file"
    assert refusal(read, tmp_path) == "Is a directory"
    assert refusal(read, Path("/dev/zero")) == "a device, not a file"
    assert refusal(read, tmp_path / "none") == "No such file or directory"


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(input_files, "check_file", lambda *_: 1)
    assert refusal(open_file, tmp_path / "pipe") == "a pipe, not a file"


def test_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link"):
        assert check_file(path) == 7
        assert read_bytes(path) == word_maps.files.read(path) == b"content"
        with open_file(path) as file:
            assert file.seekable() and file.read(3) == b"con"


def test_no_reader_of_other_peoples_files_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    os.mkfifo(tmp_path / "explanation.json")
    for part in ("Sentences", "Annotations"):
        (tmp_path / part).mkdir()
    os.mkfifo(tmp_path / "Sentences" / "1.txt")
    readers: list[Callable[[Path], object]] = [
        read_text,
        read_json,
        Vocabulary.load,
        lambda _: Explanation.load(tmp_path),
        lambda _: Entities(tmp_path).read("1", (4, 4)),
        word_maps.extended,
        word_maps.coco.read_captions,
        word_maps.coco.read_instances,
    ]
    for read in readers:
        with pytest.raises((ValueError, OSError), match="a pipe") as caught:
            read(tmp_path / "pipe.json")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["im2txt", "tutorial-captioner", "vqa-pytorch", "lstm-cnn-torch7", "basic-vqa"]
)
def test_no_file_of_a_model_is_waited_for(tmp_path: Path, name: str) -> None:
    """Each in turn is a pipe; to be refused, or passed over where the model can do without."""
    sound = tmp_path / "sound"
    sound.mkdir()
    ADAPTERS[name](sound)
    texts = (".txt", ".json", ".yaml", ".pkl", ".index")
    files = [path for path in sorted(sound.rglob("*")) if path.suffix in texts]
    assert files
    for file in files:
        shutil.copytree(sound, tmp_path / "copy")
        pipe = tmp_path / "copy" / file.relative_to(sound)
        pipe.unlink()
        os.mkfifo(pipe)
        for path in (pipe.parent, pipe):
            try:
                vlcam.load(path)
            except (ValueError, OSError) as error:
                assert len(str(error).splitlines()) == 1
        shutil.rmtree(tmp_path / "copy")
