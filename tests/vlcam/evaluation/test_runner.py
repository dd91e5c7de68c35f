"""``vlcam evaluate``: experiments, records that survive, and tables that are a function of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

import captioning
import vlcam
import word_maps
from captioning.data import regions
from captioning.data.regions import Region
from captioning.experiments.regions import BoxRatios
from captioning.experiments.words import CENTRE, Words
from vlcam.adapters.adapter import Adapter, Unit
from vlcam.attribution import methods, targets
from vlcam.attribution.encoding import Encoded, encode_photos, prepare
from vlcam.attribution.maps import explain_targets
from vlcam.cli.parser import main
from vlcam.evaluation import gallery, runner
from vlcam.evaluation.experiment import sample
from vlcam.evaluation.store import Part, Store, opened
from vlcam.evaluation.summary import Summary, Table, to_json, to_latex, to_markdown
from vlcam.geometry.grid import degenerate, peak, place
from vlcam.metrics.estimates import mean
from vlcam.metrics.pointing import hit
from vlcam.scenes.write import write

SUMMARIES = ("summary.json", "summary.md", "summary.tex", "report.html")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "scenes"
    write(folder, 6, 3)
    return folder


def words(folder: Path, out: Path, *more: str) -> int:
    command = ["evaluate", "words", "--data", str(folder), "--out", str(out)]
    return main([*command, *more])


def records(out: Path) -> list[dict[str, Any]]:
    parts = sorted((out / "records").glob("*.parquet"))
    return [record for part in parts for record in parquet.read_table(part).to_pylist()]


def summaries(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in SUMMARIES]


def test_words_are_pointed_with_as_one_would_by_hand(scenes: Path, tmp_path: Path) -> None:
    assert words(scenes, tmp_path / "out", "--method", "grad-cam,gradient") == 0
    found = records(tmp_path / "out")
    model = captioning.load("scenes")
    experiment = Words(scenes)
    expected = []
    for item in experiment.items:
        photo = vlcam.look(model, item.photo)
        for text in experiment._captions.by_image[int(item.name)]:
            reading = model.read(text)
            texts = [unit.text for unit in reading.units]
            for start, stop, category in word_maps.visual_words(texts):
                units = [u for u in reading.units[start:stop] if not u.unknown]
                coco = experiment._instances.coco
                if category in word_maps.present(coco, int(item.name)) and units:
                    columns = tuple(c for unit in units for c in unit.scores)
                    target = targets.unit(reading, Unit("word", columns))
                    maps = explain_targets(model, photo, [target], methods.get("grad-cam"))
                    where = peak(place(maps.maps, maps.grid, photo.placement))[0][0]
                    mask = word_maps.word_map(coco, int(item.name), category)
                    on_it = hit(mask, where, degenerate(maps.maps)[0])
                    expected.append((item.name, category, where, float(on_it)))
    ours = [
        (str(r["image"]), r["category"], (r["x"], r["y"]), r["hit"])
        for r in found
        if r["map"] == "grad-cam"
    ]
    assert ours == expected and len(ours) > 30
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    rows = {row["map"]: row for row in summary["tables"][0]["rows"]}
    assert list(rows)[:2] == ["grad-cam", "gradient"] and CENTRE in rows
    assert rows["grad-cam"]["hits"]["value"] == np.mean([on_it for *_, on_it in expected])
    assert rows["grad-cam"]["words"] == len(expected)
    assert rows["uniform map"]["hits"]["value"] == 0  # degenerate, so a miss
    chance = rows["random point, expected"]["hits"]["value"]
    areas = [r["area"] for r in found if r["map"] == "grad-cam"]
    assert chance == pytest.approx(np.mean(areas))


def test_no_compound_goes_on_behind_a_comma(tmp_path: Path) -> None:
    """Though the model does not read commas."""
    write(tmp_path / "scenes", 1, 3)
    file = tmp_path / "scenes" / "annotations" / "captions.json"
    captions = json.loads(file.read_text())
    for entry, text in zip(
        captions["annotations"],
        ["a horse, dog", "A horse , dog", "the HORSE dog", "the horse dog, dog"],
        strict=False,
    ):
        entry["caption"] = text
    del captions["annotations"][4:]
    file.write_text(json.dumps(captions))
    table = tmp_path / "own.txt"
    table.write_text("-: horse dog\n")
    assert words(tmp_path / "scenes", tmp_path / "out", "--words", str(table)) == 0
    found = records(tmp_path / "out")
    named = [r["word"] for r in found if r["map"] == "grad-cam" or r["reason"] == "absent"]
    assert sorted(named) == ["dog", "dog", "dog", "horse", "horse"]
    assert sum(r["reason"] == "nothing" for r in found) == 1


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


def test_photos_looked_at_together_are_as_by_themselves(scenes: Path) -> None:
    model = captioning.load("scenes")
    paths = sorted((scenes / "images").iterdir())[:3]
    images = [Image.open(path).convert("RGB") for path in paths]
    for path, seen in zip(
        paths,
        encode_photos(
            model, [prepare(model, str(p), i) for p, i in zip(paths, images, strict=True)]
        ),
        strict=True,
    ):
        one = vlcam.look(model, path)
        assert one.features is not None and seen.features is not None
        assert (one.pixels == seen.pixels).all() and one.placement == seen.placement
        assert (one.features.maps - seen.features.maps).abs().max() < 1e-4


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
    command += ["--out", str(out), "--method", "guided-backprop", "--part", "1"]
    command += ["--captions", "first"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(out.glob("records/part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert list(out.glob("records/part-*.parquet"))
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    whole = tmp_path / "whole"
    command[command.index(str(out))] = str(whole)
    subprocess.run(command, check=True, capture_output=True)
    assert summaries(out) == summaries(whole)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "layercam"], 'methods is ["layercam"], was ["grad-cam"]'),
        (["--captions", "first"], 'settings.captions is "first", was "reference"'),
        (["--layer", "stage3"], 'layer is "stage3"'),
        (["--seed", "4"], "settings.seed is 4, was 0"),
        (["--limit", "2"], "settings.limit is 2, was null"),
    ],
)
def test_other_settings_do_not_resume(
    scenes: Path,
    finished: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert words(scenes, finished, "--resume", *options) == 1
    err = capsys.readouterr().err
    assert "cannot be resumed with other settings" in err and said in err and err.count("\n") == 1


@pytest.fixture(scope="module")
def finished(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert words(scenes, out) == 0
    return out


def test_a_folder_in_use_is_left_alone(
    scenes: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((finished / "manifest.json").read_text())
    with opened(finished, manifest, Words.columns, resume=True):
        assert words(scenes, finished, "--resume") == 1
    assert "another run works in it" in capsys.readouterr().err


def test_a_run_that_fails_before_anything_is_done_can_be_put_right(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert words(scenes, out, "--method", "grad-cam-guided") == 1
    assert "no ReLU between layer stage4 and the score" in capsys.readouterr().err
    assert sorted(path.name for path in out.rglob("*")) == ["lock", "records"]
    assert words(scenes, out) == 0 and len(records(out)) > 50


def test_what_is_done_outlives_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), opened(tmp_path / "out", {}, {"n": int}, False) as store:
        store.write(0, Part([{"n": 1}], []))
        raise KeyboardInterrupt
    with opened(tmp_path / "out", {}, {"n": int}, True) as store:
        assert store.done() == {0}


def test_a_folder_of_something_else_is_left_alone(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    assert words(scenes, tmp_path / "out") == 1
    assert "is not empty and holds no evaluation" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


def test_a_damaged_part_is_named(
    scenes: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    part = out / "records" / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:100])
    assert words(scenes, out, "--resume") == 1
    err = capsys.readouterr().err
    assert "part-00000.parquet: damaged" in err and err.count("\n") == 1


def test_a_full_disk_leaves_no_half_part(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(table: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("vlcam.evaluation.store.parquet.write_table", full)
    assert words(scenes, tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out" / "records").iterdir()) == []


def test_what_cannot_be_used_is_counted_and_listed(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    instances = json.loads((data / "annotations" / "instances.json").read_text())
    captions = json.loads((data / "annotations" / "captions.json").read_text())
    first = instances["annotations"][0]
    wrong = [
        first,
        {**first, "id": 9001, "image_id": 999},
        {**first, "id": 9002, "category_id": 999},
        {**first, "id": 9003, "segmentation": []},
        {**first, "id": 9004, "segmentation": [[1, 2, 3, 4]]},
        {**first, "id": 9005, "segmentation": {"size": [1, 2], "counts": [2]}},
        {**first, "id": 9006, "segmentation": {"size": [320, 320], "counts": [7]}},
        {**first, "id": "9007"},
        "nonsense",
    ]
    instances["annotations"] += wrong
    instances["images"].append({"id": 7777, "file_name": "gone.jpg", "height": 5, "width": 5})
    captions["annotations"] += [
        {"id": 9001, "image_id": 7777, "caption": "a dog"},
        {"id": 9002, "image_id": 4242, "caption": "a dog"},
        {"id": 9003, "image_id": 1, "caption": " "},
        {"id": 9004, "image_id": 1, "caption": "!!!"},
    ]
    for name, content in (("instances", instances), ("captions", captions)):
        (data / "annotations" / f"{name}.json").write_text(json.dumps(content))
    (data / "images" / "000000000002.jpg").write_bytes(b"no photo")
    Image.new("RGB", (10, 10)).save(data / "images" / "000000000003.jpg")
    assert words(data, tmp_path / "out") == 0
    err = capsys.readouterr().err
    listed = json.loads((tmp_path / "out" / "summary.json").read_text())["skipped"]
    told = [line.removeprefix("skipped: ") for line in err.splitlines() if "skipped: " in line]
    assert told == listed and len(listed) == 15
    for text in (
        f"annotations {first['id']}: occurs twice",
        "annotations 9001: no image 999",
        "annotations 9002: no category 999",
        "annotations 9003: no segmentation",
        "annotations 9004: a polygon",
        "annotations 9005: RLE of size [1, 2]",
        "annotations 9006: RLE of",
        "no id",
        "captions of image 4242: not in the instances file",
        "captions 9003: no word in it",
        "1: the caption '!!!' has no word",
        "the id '9007' is no whole number",
        "7777: ",
        "2: ",
        "000000000003.jpg is 10 x 10",
    ):
        assert sum(text in line for line in listed) >= 1, text
    assert {str(r["image"]) for r in records(tmp_path / "out")} == {"1", "4", "5", "6"}


@pytest.mark.parametrize(
    ("options", "said", "code"),
    [
        (["--method", "grad-kam"], "unknown method 'grad-kam'", 1),
        (["--limit", "0"], "'0' is not a whole number, at least 1", 2),
        (["--split", "val2017"], "instances_val2017.json: No such file", 1),
        (["--model", "nowhere"], "nowhere: no such file or folder", 1),
        (["--words", "nowhere"], "nowhere: No such file", 1),
    ],
)
def test_bad_options(
    scenes: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    if code == 2:
        with pytest.raises(SystemExit) as stopped:
            words(scenes, out, *options)
        assert stopped.value.code == 2
    else:
        assert words(scenes, out, *options) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("text", ['{"images": [', "[]", '{"images": 1}'])
def test_a_file_that_was_cut_is_named(
    scenes: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scenes, tmp_path / "data")
    (tmp_path / "data" / "annotations" / "instances.json").write_text(text)
    assert words(tmp_path / "data", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert "instances.json: not" in err and err.count("\n") == 1


def test_generated_captions_and_words_of_ones_own(scenes: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("-: dog, cat, person, car, man, woman\n")
    for more in ([], ["--words", str(mine)]):
        out = tmp_path / f"out{len(more)}"
        assert words(scenes, out, "--captions", "generated", "--beam", "2", *more) == 0
        found = records(out)
        assert {r["image"] for r in found} <= set("123456")
        assert not more or not {r["word"] for r in found} & {"dog", "cat", "man", "car"}


def test_a_caption_that_is_written_otherwise_by_itself_is_not_shown(
    scenes: Path, tmp_path: Path
) -> None:
    class Hesitant(Words):
        def write(self, model: Adapter, photos: Sequence[Encoded]) -> Sequence[Any]:
            written = super().write(model, photos)
            return written if len(photos) > 1 else [(), *written[1:]]

    shown = []
    for kind in (Words, Hesitant):
        experiment = kind(scenes, captions="generated")
        work = runner.Work(experiment, (methods.get("grad-cam"),))
        model = captioning.load("scenes")
        with opened(tmp_path / kind.__name__, {}, Words.columns, False) as store:
            runner.run(work, model, store)
            found, _ = runner.read_all(work, store)
        shown.append(list(gallery.pictures(experiment, model, work.methods[0], found)))
    assert len(shown[0]) >= 4 and shown[1] == []


# Regions


def visual_genome(folder: Path) -> Path:
    return folder / "annotations" / "region_descriptions.json"


def test_box_ratios_of_the_scenes_regions(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["evaluate", "regions", "--regions", str(visual_genome(scenes))]
    command += ["--photos", str(scenes), "--method", "grad-cam,guided-backprop", "--out", str(out)]
    assert main(command) == 0
    found = records(out)
    uniform = [r for r in found if r["map"] == "uniform map"]
    assert len(uniform) >= 30 and all(r["inside"] == r["outside"] == 1 for r in uniform)
    summary = json.loads((out / "summary.json").read_text())
    rows = {row["map"]: row for row in summary["tables"][0]["rows"]}
    ours = [r for r in found if r["map"] == "grad-cam"]
    ratio = sum(r["inside"] for r in ours) / sum(r["outside"] for r in ours)
    assert rows["grad-cam"]["ratio of means"]["value"] == pytest.approx(ratio)
    assert ratio > 2 and rows["uniform map"]["ratio of means"]["value"] == 1


def photo(path: Path, size: tuple[int, int] = (40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_every_format_of_regions_says_the_same(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "000000000012.jpg")
    expected = ("a red dog", ((4.0, 2.0, 14.0, 12.0),))
    box = {"x": 4, "y": 2, "width": 10, "height": 10}
    genome = [{"id": 12, "regions": [{"region_id": 1, "phrase": "a red dog", **box}]}]
    # 720 / 40 = 18 times as large, counted from 1; of two regions the more confident one.
    dense = {
        "opt": {"image_size": 720},
        "results": [
            {
                "img_name": "000000000012.jpg",
                "boxes": [[1, 1, 9, 9], [73, 37, 180, 180]],
                "scores": [0.1, 5.0],
                "captions": ["grass", "a red dog"],
            }
        ],
    }
    coco = {
        "images": [{"id": 12, "file_name": "000000000012.jpg"}],
        "annotations": [{"image_id": 12, "caption": "a red dog", "bbox": [4, 2, 10, 10]}],
    }
    for content in (genome, dense, coco):
        path = tmp_path / "regions.json"
        path.write_text(json.dumps(content))
        (found,) = regions.read(path, tmp_path, top=1).photos
        assert found.path.name == "000000000012.jpg"
        assert [(r.text, r.boxes) for r in found.regions] == [expected]
    marked = tmp_path / "entities"
    (marked / "Sentences").mkdir(parents=True)
    (marked / "Annotations").mkdir()
    photo(tmp_path / "flickr" / "77_a.jpg")
    (marked / "Sentences" / "77.txt").write_text("[/EN#5/animals a red dog] runs\n")
    (marked / "Annotations" / "77.xml").write_text(
        "<annotation><size><width>40</width><height>20</height></size><object><name>5</name><bndbox>"
        "<xmin>5</xmin><ymin>3</ymin><xmax>14</xmax><ymax>12</ymax></bndbox></object></annotation>"
    )
    (found,) = regions.read(marked, tmp_path / "flickr", ["77_a.jpg"]).photos
    assert [(r.text, r.boxes) for r in found.regions] == [expected]
    assert found.regions[0].sentence == ("a", "red", "dog", "runs")


def test_regions_that_cannot_be_used(tmp_path: Path) -> None:
    photo(tmp_path / "images" / "1.jpg")
    path = tmp_path / "regions.json"
    path.write_text(json.dumps([{"id": 1, "regions": []}, {"id": 1, "regions": []}, {"id": 2}]))
    assert regions.read(path, tmp_path).problems == ("image 1: occurs twice", "image 2: no photo")
    one = {"boxes": [], "scores": [], "captions": []}
    (tmp_path / "images" / "2.jpg").write_bytes(b"no photo")
    results = [{"img_name": name, **one} for name in ("1.jpg", "1.jpg", "2.jpg", "3.jpg")]
    path.write_text(json.dumps({"results": results}))
    found = regions.read(path, tmp_path)
    assert [photo.name for photo in found.photos] == ["1"]
    assert found.problems[0] == "1.jpg: occurs twice" and found.problems[2] == "3.jpg: no photo"
    assert "2.jpg: not a readable image" in found.problems[1] and len(found.problems) == 3
    for text, said in (
        ("{", "not JSON, or cut in the middle"),
        ("{}", "not a file of regions"),
        ('[{"id": 1}]', "not a file of regions"),
        ('{"results": [{"img_name": "1.jpg", "boxes": [[1]], "scores": [1], "captions": [""]}]}',
         "not a file of regions"),
        ('{"results": 7}', "not a file of regions"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{path.name}: {said}"):
            regions.read(path, tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        regions.read(path, tmp_path / "nowhere")


GOOD = {"phrase": "a dog", "x": 1, "y": 2, "width": 3, "height": 4}
RESULT = {"img_name": "1.jpg", "scores": [1.0], "captions": ["a dog"], "boxes": [[2, 3, 3, 4]]}
ANNOTATION = {"image_id": 7, "caption": "a dog", "bbox": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (
            [7, {"regions": []}, {"id": 1, "regions": [
                GOOD | {"phrase": None}, GOOD | {"x": float("nan")}, GOOD | {"y": "2"}, GOOD,
                {"phrase": "a dog"}, 7,
            ]}],
            [
                "entry 0: no image with an id",
                "entry 1: no image with an id",
                "image 1: region 0: no word in its text",
                "image 1: region 1: its box is [nan, 2, 3, 4], not four numbers",
                "image 1: region 2: its box is [1, '2', 3, 4], not four numbers",
                "image 1: region 4: no x",
                "image 1: region 5: not of the format",
            ],
        ),
        (
            {"opt": {"image_size": 40}, "results": [
                {"img_name": "1.jpg"}, RESULT | {"scores": []}, RESULT | {"scores": ["high"]},
                RESULT | {"captions": [" "]}, RESULT | {"boxes": [[1]]}, 7, RESULT,
            ]},
            [
                "result 0: no scores",
                "result 1: not as many scores, captions and boxes",
                "result 2: scores that are no numbers",
                "result 3: no word in its text",
                "result 4: its box is [1], not four numbers",
                "result 5: not of the format",
            ],
        ),
        (
            {"images": [{"id": 7, "file_name": "1.jpg"}, {"id": 8}], "annotations": [
                {"image_id": 7}, ANNOTATION | {"bbox": None}, ANNOTATION, None,
            ]},
            [
                "annotation 0: no caption",
                "annotation 1: its box is None, not four numbers",
                "annotation 3: not of the format",
                "image 1: no file_name",
            ],
        ),
    ],
    ids=["Visual Genome", "DenseCap", "COCO"],
)  # fmt: skip
def test_one_bad_region_costs_no_others(data: Any, problems: list[str], tmp_path: Path) -> None:
    photo(tmp_path / "images" / "1.jpg", (40, 40))
    path = tmp_path / "regions.json"
    path.write_text(json.dumps(data))
    found = regions.read(path, tmp_path)
    assert list(found.problems) == problems
    ((region,),) = [one.regions for one in found.photos]
    assert region == Region("a dog", ((1, 2, 4, 6),))


def test_a_region_in_its_sentence(scenes: Path, tmp_path: Path) -> None:
    model = captioning.load("scenes")
    photo(tmp_path / "photos" / "1.jpg", (320, 320))
    marked = tmp_path / "entities"
    (marked / "Sentences").mkdir(parents=True)
    (marked / "Annotations").mkdir()
    (marked / "Sentences" / "1.txt").write_text("a cat and [/EN#5/animals a red dog] qwertz\n")
    (marked / "Annotations" / "1.xml").write_text(
        "<annotation><size><width>320</width><height>320</height></size><object><name>5</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        "</annotation>"
    )
    seen = vlcam.look(model, tmp_path / "photos" / "1.jpg")
    for protocol, text, start in (
        ("sentence", "a cat and a red dog qwertz", 3),
        ("alone", "a red dog", 0),
    ):
        experiment = BoxRatios(marked, tmp_path / "photos", protocol=protocol)  # type: ignore[arg-type]
        (target,) = experiment.ask(model, experiment.items[0], seen, None).targets
        reading = model.read(text)
        assert target.terms[0].prompt == reading.prompt
        columns = [c for unit in reading.units[start : start + 3] for c in unit.scores]
        assert list(target.terms[0].scores) == columns


# Faithfulness


def test_faithfulness_of_words_and_of_answers(scenes: Path, tmp_path: Path) -> None:
    common = ["--patch-size", "80", "--patch-stride", "80", "--limit", "1"]
    common += ["--method", "grad-cam,gradient"]
    for kind, path in (("--photos", scenes / "images"), ("--data", scenes)):
        out = tmp_path / kind.strip("-")
        command = ["evaluate", "faithfulness", kind, str(path), "--out", str(out), *common]
        assert main([*command, *(["--no-curves"] if kind == "--data" else [])]) == 0
        summary = json.loads((out / "summary.json").read_text())
        table, paired = summary["tables"]
        rows = {row["map"]: row for row in table["rows"]}
        baselines = ["centred Gaussian", "noise", "summed activation", "uniform map"]
        assert list(rows) == ["grad-cam", "gradient", *baselines]
        assert rows["uniform map"]["constant"] == rows["uniform map"]["maps"]
        ours, theirs = (rows[n]["correlation with occlusion"]["value"] for n in list(rows)[:2])
        (row,) = paired["rows"]
        assert row["less grad-cam"]["value"] == pytest.approx(theirs - ours)
        key = "deletion, less the Gaussian's"
        assert (key in rows["noise"]) == (kind == "--photos")
        if kind == "--photos":
            assert rows["centred Gaussian"][key]["value"] == 0


def test_a_sample_keeps_its_order_and_its_seed() -> None:
    things = list("abcdefgh")
    some = sample(things, 3, 5)
    assert len(some) == 3 and some == sorted(some) == sample(things, 3, 5)
    assert len({tuple(sample(things, 3, seed)) for seed in range(9)}) > 1
    assert sample(things, None, 5) == sample(things, 8, 5) == things


# Summaries


def test_of_a_single_image_there_is_no_error_and_the_summary_is_json() -> None:
    table = Table("Hits", ("map", "hits"), (("one", mean([1.0], [7])),))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = to_json(Summary((table,)), {}, [])
    ((row,),) = [t["rows"] for t in json.loads(text, parse_constant=refuse)["tables"]]
    assert row["hits"]["value"] == 1 and row["hits"]["error"] is None


def test_tables_as_text_and_as_latex() -> None:
    estimate = mean([0, 1, 1, 1], [1, 1, 2, 2])
    table = Table("Hits_1", ("map", "hits"), (("a & b", estimate), ("none", 3)), note="Note.")
    about = {"model": "m", "settings": {"limit": 3, "methods": ["a", "b"]}}
    text = to_markdown(Summary((table,), ("Paper.",)), "Title", about, ["one"])
    assert "<sub>model: m; settings: limit 3, methods a, b</sub>" in text
    assert "75.0 ± 25.0" in text and "## Hits_1, %" in text and "Could not be used: 1." in text
    latex = to_latex(Summary((table,)))
    assert r"a \& b & 75.0 $\pm$ 25.0 \\" in latex and r"Hits\_1 (\%)" in latex
