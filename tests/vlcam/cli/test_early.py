"""What is wrong with a command line, told before torch is imported: by counting modules."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.command_line import PHOTO, REPOSITORY
from vlcam.cli import early

_DATA = "--data data --out new"
REFUSED = {
    "explain none.jpg": "none.jpg: no such file",
    "explain none.jpg nor.jpg": "vlcam: 2 of 2 photos failed: none.jpg, nor.jpg",
    "explain data": "data: a folder, not a photo",
    "explain text.txt": "text.txt: not a readable image",
    "explain empty.jpg": "empty.jpg: empty file",
    "explain PHOTO --answers yes": "go with a --question",
    "explain PHOTO --question why --answers a --contrast a b": "--answers and --contrast: give one",
    "explain PHOTO --question why --contrast a a": "--contrast of 'a' with itself",
    "explain PHOTO --caption a --question why": "--caption and --question: give one of them",
    "explain PHOTO --method grad-can": "unknown method 'grad-can'; did you mean grad-cam",
    "explain PHOTO --patch-size 9": "--patch-size goes with --method occlusion",
    "explain PHOTO --model scens": "scens: no such file or folder",
    "explain PHOTO --model missing/folder/here": "missing/folder/here: no such file or folder",
    "explain PHOTO --device cdua": "unknown device 'cdua'; did you mean cuda?",
    "explain PHOTO --beam -1": "argument --beam",
    "explain PHOTO --out text.txt": "text.txt: ",
    "layers none.jpg": "none.jpg: no such file",
    "layers PHOTO --method occlusion": "maps of occlusion do not live at a layer",
    "layers PHOTO --model scens": "scens: no such file or folder",
    "regions none.jpg": "none.jpg: no such file",
    "regions PHOTO --model denscap": "denscap: no such file or folder; did you mean densecap?",
    "models scens": "scens: no such file or folder",
    "convert none.pth new": "none.pth: no such file or folder",
    "convert none.pth data": "data: there is something already",
    "demo --out text.txt": "text.txt: ",
    "scenes new --images 0": "'0' is not a whole number, at least 1",
    "scenes new --images 2 --seed -1": "'-1' is not a whole number, at least 0",
    "scenes data --images 2": "data already exists and is not empty",
    "questions --data none --entities data --out new": "none: no such folder",
    "questions --data data --entities none.zip --out new": "none.zip: no such file or folder",
    "questions --data data --entities data --out data": "data: exists already",
    f"train captioner {_DATA}": "give --cnn-weights FILE, or train the CNN with --cnn-epochs N",
    "train captioner --data none --out new": "none: no such folder",
    f"train captioner {_DATA} --cnn-weights none.pth": "none.pth: no such file or folder",
    f"train captioner {_DATA} --cnn-epochs 1.5": "'1.5' is not a whole number, at least 0",
    f"train captioner {_DATA} --cnn-epochs 1 --precision half": "unknown choice 'half'; known: ",
    f"train captioner {_DATA} --first-size 9 --cnn-weights PHOTO": "--first-size is about training",
    f"train captioner {_DATA} --cnn-epochs 1 --dropout-input 2": "'2' is not a number from 0 to 1",
    "train captioner --cnn-epochs 1 --data data --out new": "data: neither captions.txt",
    "train densecap --data text.txt --out new": "text.txt: not a folder",
    f"train densecap {_DATA} --cnn-epochs 1": "data: neither region_descriptions.json",
    f"train vqa {_DATA} --cnn-epochs 1": "data: no annotations/*questions.json",
    f"train vqa {_DATA} --architecture lstm": "unknown choice 'lstm'; did you mean lstm-cnn?",
    "train vqa --data data --out text.txt --cnn-epochs 1": "text.txt: ",
    "evaluate words --data none": "none: no such folder",
    "evaluate words --data data": "instances.json: No such file",
    "evaluate faithfulness --data data": "data: no annotations/*questions.json",
    "evaluate attention --data data": "data: no annotations/*questions.json",
    "evaluate words --data data --words none": "none: no such file",
    "evaluate words --data data --tolerance nan": "'nan' is not a number of at least 0",
    "evaluate words --data data --method lime": "unknown method 'lime'; known: grad-cam",
    "evaluate words --data coco --model scens": "scens: no such file or folder",
    "evaluate words --data data --workers 2": "--workers goes with --engine ray",
    "evaluate words --data data --seed -1": "'-1' is not a whole number, at least 0",
    "evaluate words --data coco --out text.txt": "text.txt: ",
    "evaluate words --data coco --out data": "data: ",
    "evaluate regions --regions densecp --photos data": "densecp: no such file or folder; did ",
    "evaluate regions --regions densecap --photos none": "none: no such folder",
    "evaluate faithfulness --photos none": "none: no such folder",
    "evaluate faithfulness --photos data --patch-size 0": "'0' is not a whole number, at least 1",
    "evaluate attention --data data --maps none": "none: no such folder",
}

_PROGRAM = """
import contextlib, io, json, sys
from vlcam.cli.parser import main

found = {}
for line in json.load(sys.stdin):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        try:
            code = main(line.replace("PHOTO", sys.argv[1]).split())
        except SystemExit as left:
            code = left.code
    heavy = sorted({"torch", "torchvision", "transformers", "matplotlib"} & set(sys.modules))
    found[line] = code, told.getvalue(), heavy
json.dump(found, sys.stdout)
"""


def test_what_is_told_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    for name in ("instances", "captions"):
        (tmp_path / "coco" / "annotations" / f"{name}.json").touch()
    (tmp_path / "data" / "note.txt").write_text("of something else")
    (tmp_path / "text.txt").write_text("no photo")
    (tmp_path / "empty.jpg").touch()
    before = sorted(tmp_path.rglob("*"))
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(PHOTO)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"},
        input=json.dumps([*REFUSED]),
        capture_output=True,
        text=True,
        check=True,
    )
    for line, (code, told, heavy) in json.loads(run.stdout).items():
        assert (line, heavy) == (line, [])
        assert code in (1, 2) and told.startswith("vlcam") and REFUSED[line] in told, (line, told)
        assert len(told.splitlines()) == (3 if "2 photos failed" in REFUSED[line] else 1), told
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "\0", "x" * 5000, "none"])
def test_names_that_no_folder_can_have(text: str) -> None:
    for kind in (early.folder, early.file, early.file_or_folder):
        with pytest.raises(argparse.ArgumentTypeError, match=r"no such|too long|null"):
            kind(text)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(argparse.ArgumentTypeError, match="a pipe, not a file"):
        early.file(str(tmp_path / "pipe"))
    assert early.file_or_folder("densecap", ("densecap",)) == Path("densecap")


def test_numbers() -> None:
    assert early.natural("0") == 0 and early.amount("1e-3") == 0.001 and early.share("1") == 1
    for kind in (early.natural, early.amount, early.share):
        for text in ("-1", "", "nan", "inf", "one", "²"):
            with pytest.raises(argparse.ArgumentTypeError, match="is not a"):
                kind(text)
