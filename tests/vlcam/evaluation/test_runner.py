"""Running an experiment: in batches, threads and parts, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest
import torch

import captioning
from captioning.experiments.words import Words
from tests.tools.command_line import OF_SCENES
from tests.tools.evaluations import records, summaries, words
from vlcam.attribution import methods
from vlcam.evaluation import gallery, runner
from vlcam.evaluation.store import Store


def test_the_photo_is_encoded_once_for_all_methods(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(captioning.load("scenes"))
    encoded: list[int] = []
    plain = kind.encode

    def counted(self: Any, pixels: Any, prompts: Any = None) -> Any:
        encoded.append(len(pixels))
        return plain(self, pixels, prompts)

    monkeypatch.setattr(kind, "encode", counted)
    monkeypatch.setattr(gallery, "pictures", lambda *args: ())  # they look once more
    assert words(scenes, tmp_path / "out", "--method", "grad-cam,layercam,hirescam") == 0
    assert sum(encoded) == 6


def test_photos_together_are_explained_as_each_by_itself(scenes: Path) -> None:
    model, experiment = captioning.load("scenes"), Words(scenes, captions="first")
    work = runner.Work(experiment, (methods.get("grad-cam"),))
    together = list(runner.measure(work, model, experiment.items).records)
    alone = [r for item in experiment.items for r in runner.measure(work, model, [item]).records]
    assert len(together) == len(alone) > 50
    for one, other in zip(together, alone, strict=True):
        inside = pytest.approx(one.pop("inside"), abs=1e-6)
        assert other.pop("inside") == inside and one == other


def test_batches_at_once_give_the_same_records_bit_for_bit(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads with a batch each, computing by themselves, as one after the other in one thread;
    a model that may not be used so is not."""
    monkeypatch.setattr(Words, "batch", 1)
    model, experiment = captioning.load("scenes"), Words(scenes, captions="first")
    work = runner.Work(experiment, (methods.get("grad-cam"), methods.get("guided-backprop")))
    busy, most = 0, 0
    plain, lock = type(model).encode, Lock()

    def counted(self: Any, pixels: Any, prompts: Any = None) -> Any:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.1)
        with lock:
            busy -= 1
        return plain(self, pixels, prompts)

    monkeypatch.setattr(type(model), "encode", counted)
    before = torch.get_num_threads()
    try:
        found = []
        for threads, safe, expected in ((1, True, 1), (2, True, 2), (2, False, 1)):
            torch.set_num_threads(threads)
            model.thread_safe = safe
            most = 0
            found.append(list(runner.measure(work, model, experiment.items).records))
            assert most == expected and torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] and len(found[2]) == len(found[0]) > 50


def test_on_a_gpu_a_batch_is_scored_while_the_next_is_looked_at(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of things there, on a CPU; the model still looks at one batch after the other."""
    monkeypatch.setattr(Words, "batch", 2)
    model, experiment = captioning.load("scenes"), Words(scenes, captions="first")
    work = runner.Work(experiment, (methods.get("grad-cam"),))
    expected = list(runner.measure(work, model, experiment.items).records)
    monkeypatch.setattr(runner, "_on_cpu", lambda model: False)
    explaining, scoring, next_explained, overlapped = 0, 0, Event(), []
    plain_explain, plain_score = runner._explain, runner._score

    def explain(*args: Any) -> Any:
        nonlocal explaining
        explaining += 1
        assert explaining == 1
        if scoring:
            next_explained.set()
        found = plain_explain(*args)
        explaining -= 1
        return found

    def score(*args: Any) -> Any:
        nonlocal scoring
        scoring += 1
        if scoring == 1:
            overlapped.append(next_explained.wait(60))
        return plain_score(*args)

    monkeypatch.setattr(runner, "_explain", explain)
    monkeypatch.setattr(runner, "_score", score)
    assert list(runner.measure(work, model, experiment.items).records) == expected
    assert overlapped == [True]
    monkeypatch.setattr(Words, "scores_by_model", True)
    assert runner._batches_at_once(work, model, 2) == 1  # nor is the model run beside itself


def test_an_interrupted_run_does_not_finish_what_it_had_begun(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Words, "batch", 2)
    model, experiment = captioning.load("scenes"), Words(scenes, captions="first")
    model.thread_safe = False  # one batch at a time
    explained: list[str] = []
    plain = runner.explain_targets_by

    def slow(model: Any, photo: Any, *rest: Any) -> Any:
        explained.append(photo.photo)
        time.sleep(0.5)
        return plain(model, photo, *rest)

    def interrupt(photos: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "explain_targets_by", slow)
    work = runner.Work(experiment, (methods.get("guided-backprop"),))
    with pytest.raises(KeyboardInterrupt):
        list(runner.measured(work, model, {0: experiment.items}, interrupt))
    assert 2 <= len(explained) <= 3 < len(experiment.items)


def test_methods_together_are_as_each_by_itself(scenes: Path) -> None:
    """Those that need the same gradients share them; what comes out is the same, bit for bit."""
    model, experiment = captioning.load("scenes"), Words(scenes, captions="first", limit=3)
    names = ("grad-cam", "guided-grad-cam", "layercam", "guided-backprop", "deconv")
    every = tuple(methods.get(name) for name in names)
    together = runner.measure(runner.Work(experiment, every), model, experiment.items).records
    for method in every:
        work = runner.Work(experiment, (method,))
        alone = runner.measure(work, model, experiment.items).records
        own = [record for record in alone if record["map"] == method.name]
        assert own and [record for record in together if record["map"] == method.name] == own


def test_a_run_that_was_killed_resumes_to_the_same_summary(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert words(scenes, whole, "--part", "2") == 0
    plain = Store.write
    left = [2]

    def until_killed(*args: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        plain(*args)

    monkeypatch.setattr(Store, "write", until_killed)
    assert words(scenes, cut, "--part", "2") == 130
    assert len(list((cut / "records").iterdir())) == 2 and not (cut / "summary.json").exists()
    (cut / "records" / ".part-00002.parquet.1.part").write_bytes(b"half")
    monkeypatch.setattr(Store, "write", plain)
    assert words(scenes, cut, "--part", "2") == 1  # not without being told to
    assert words(scenes, cut, "--part", "2", "--resume") == 0
    assert summaries(cut) == summaries(whole)
    # Once more there is nothing left to do, and the same comes out.
    monkeypatch.setattr(runner, "measured", None)
    assert words(scenes, cut, "--part", "2", "--resume") == 0
    assert summaries(cut) == summaries(whole)


def test_kill_minus_nine(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vlcam", "evaluate", "words", "--data", str(scenes)]
    more = [*OF_SCENES, "--method", "guided-backprop", "--part", "1", "--captions", "first"]
    command += ["--out", str(out), *more]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("records/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert list(out.glob("records/part-*.parquet"))
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    whole = tmp_path / "whole"
    assert words(scenes, whole, *more) == 0
    assert summaries(out) == summaries(whole)


def test_a_run_that_fails_before_anything_is_done_can_be_put_right(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert words(scenes, out, "--method", "grad-cam-guided") == 1
    assert "no ReLU between layer stage4 and the score" in capsys.readouterr().err
    assert sorted(path.name for path in out.rglob("*")) == ["lock", "records"]
    assert words(scenes, out) == 0 and len(records(out)) > 50
