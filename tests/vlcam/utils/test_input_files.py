"""What is no regular file is refused, and never waited for."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from vlcam.utils import input_files
from vlcam.utils.input_files import InputFileError, check_file, open_file, read_bytes, read_text

READERS: list[Callable[[Path], object]] = [check_file, open_file, read_bytes, read_text]


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(InputFileError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")


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
    assert refusal(read, tmp_path) == "a folder, not a file"
    assert refusal(read, Path("/dev/zero")) == "a device, not a file"
    assert refusal(read, tmp_path / "none") == "no such file"
    with pytest.raises(InputFileError, match=r"^'a\\x00b': embedded null byte$"):
        read(Path("a\0b"))


def test_a_pipe_that_takes_the_files_place_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(input_files, "check_file", lambda *_: 1)
    assert refusal(open_file, tmp_path / "pipe") == "a pipe, not a file"


def test_files_and_links_to_them_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\n")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file", tmp_path / "link"):
        assert check_file(path) == 9
        assert read_bytes(path, most=9) == b"\xef\xbb\xbfcaf\xc3\xa9\n"
        assert read_text(path) == "café\n"
        with open_file(path) as file:
            assert file.seekable() and file.read(3) == b"\xef\xbb\xbf"


def test_what_is_too_large_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"caf\xe9 au lait")
    assert (
        refusal(read_text, tmp_path / "file") == "not UTF-8 (invalid continuation byte at byte 3)"
    )
    with pytest.raises(
        InputFileError, match=r"file: more than 11 bytes, too large for a word list$"
    ):
        read_bytes(tmp_path / "file", "word list", most=11)
