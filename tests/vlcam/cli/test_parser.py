"""The command line as a whole: what every command does alike."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.command_line import (
    FILES,
    OF_SCENES,
    PHOTO,
    REPOSITORY,
    below,
    called,
    read,
    refused,
)
from vlcam.attribution.methods import METHODS


def test_whoever_reads_the_output_may_stop() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vlcam", "methods"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()  # long before torch is imported and the first line printed
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait() == 141


def test_names_that_a_terminal_cannot_show(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xa9.jpg"
    Path(os.fsdecode(name)).write_bytes(PHOTO.read_bytes())
    asked = ("--caption", "a dog")
    run = subprocess.run(
        [sys.executable, "-m", "vlcam", "explain", name, *OF_SCENES, *asked, "--out", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert run.returncode == 0 and run.stderr == b""
    assert b"/caf\\udce9 \\xe9.jpg: a dog\n" in run.stdout
    folder = Path(os.fsdecode(name)).with_suffix("")
    assert below(folder) == FILES and read(folder)["photo"] == os.fsdecode(name)


@pytest.mark.parametrize(
    "arguments", [(), ("nope",), ("train",), ("train", "nope"), ("explain",), ("train", "--")]
)
def test_a_wrong_command_line_is_told_of_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    assert "--help" in refused(capsys, *arguments)


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from vlcam.cli.parser import main
for command in (["explain"], ["demo"], ["scenes"], ["train"], ["train", "captioner"], []):
    try:
        main([*command, "--help"])
    except SystemExit as left:
        assert left.code == 0
assert main(["models"]) == main(["methods"]) == 0
heavy = {"torch", "torchvision", "numpy", "PIL", "matplotlib", "transformers", "tqdm"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert run.stderr == "" and run.stdout.endswith("\nheavy: []\n")
    for told in ("usage: vlcam [-h]", "--caption TEXT", "--images N", "--cnn-weights WEIGHTS"):
        assert told in run.stdout


def test_a_full_disk_behind_the_output_is_told() -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "vlcam", "models"],
            cwd=REPOSITORY,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    said = "vlcam: standard output: No space left on device\n"
    assert (found.returncode, found.stderr) == (1, said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("explian", "vlcam: unknown command 'explian'; did you mean explain? (see vlcam --help)\n"),
        ("Explain a.jpg", "did you mean explain?"),
        ("words --data x", "unknown command 'words'; did you mean evaluate words"),
        ("captionner", "unknown command 'captionner'; did you mean train captioner?"),
        ("zzz", "unknown command 'zzz'; known: explain, layers, "),
        ("evaluate wrods", "vlcam evaluate: unknown command 'wrods'; did you mean words?"),
        ("train captoiner --data x", "vlcam train: unknown command 'captoiner'; did you mean capt"),
        ("--verison", "vlcam: unknown option '--verison'; did you mean --version?"),
        ("explain a.jpg --metod x", "vlcam explain: unknown option '--metod'; did you mean --meth"),
        ("explain --metod x", "unknown option '--metod'; did you mean --method"),  # no photo yet
        ("explain a.jpg --capton=dog", "unknown option '--capton'; did you mean --caption?"),
        ("explain a.jpg -m x", "unknown option '-m'; known: -h, --help, "),
        ("train vqa --cnn-wieghts x", "unknown option '--cnn-wieghts'; did you mean --cnn-weights"),
        ("evaluate words --dta x", "unknown option '--dta'; did you mean --data?"),
        ("evaluate faithfulness --foto x", "unknown option '--foto'; did you mean --photos?"),
        ("explain a.jpg --target wrod", "argument --target: unknown choice 'wrod'; did you mean w"),
        ("evaluate words --engine rya", "unknown choice 'rya'; did you mean ray?"),
    ],
)
def test_unknown_names(capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert said in refused(capsys, *line.split())


@pytest.mark.parametrize(
    ("line", "said"),
    [  # what begins with a dash and is no unknown option
        ("explain --patch-fill -1 --answers a -- -x.jpg", "--answers"),
        ("explain a.jpg --answers a --quest", "--question: expected one argument"),  # cut short
        ("explain a.jpg --answers - -1", "--answers"),
    ],
)
def test_other_words_with_dashes(capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    told = refused(capsys, *line.split())
    assert said in told and "unknown option" not in told


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert called("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    for line in lines:  # a place in the paper, or another paper with its year
        assert re.search(r"eq\. \d|section \d|Table \d|\(.* \d{4}\)", line)
