"""``vlcam evaluate --engine ray``: the same summary as one process, also where a worker dies."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

import captioning
from captioning.experiments.words import AskedWords, Words
from tests.tools.command_line import OF_SCENES
from vlcam.adapters.adapter import Adapter
from vlcam.attribution import methods
from vlcam.attribution.encoding import Encoded
from vlcam.cli.parser import main
from vlcam.evaluation import ray_runner as on_ray
from vlcam.evaluation import runner
from vlcam.evaluation.experiment import Item
from vlcam.evaluation.records import Columns, Record
from vlcam.evaluation.store import opened
from vlcam.models import load


class Deadly(Words):
    """Kills the first worker that comes to photo 3, and no other."""

    grave: Path

    def ask(self, model: Adapter, item: Item, photo: Encoded, written: Any) -> AskedWords:
        if item.name == "3" and not self.grave.exists():
            self.grave.write_text("here lies a worker")
            os._exit(1)
        return super().ask(model, item, photo, written)


def every(read: tuple[Columns, list[str]]) -> tuple[list[Record], list[str]]:
    records, skipped = read
    return [records.record(row) for row in range(len(records))], skipped


# Ray opens files and sockets that it leaves to the end of the process.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of what Ray sets itself
def test_on_ray_the_same_comes_out_though_a_worker_dies(scenes: Path, tmp_path: Path) -> None:
    local, cluster = tmp_path / "local", tmp_path / "ray"
    command = ["evaluate", "words", *OF_SCENES, "--data", str(scenes), "--part", "2", "--out"]
    assert main([*command, str(local)]) == 0
    experiment = Deadly(scenes)
    experiment.grave = tmp_path / "grave"
    work = runner.Work(experiment, (methods.get("grad-cam"),), 2)
    tests = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[3])}}
    ray.init(num_cpus=2, log_to_driver=False, logging_level=logging.ERROR, runtime_env=tests)
    try:
        with opened(tmp_path / "deadly", {}, Words.columns, False) as store:
            on_ray.run(
                work, partial(load, "scenes", kind="captioner"), store, on_ray.Cluster(workers=1)
            )
            found = every(runner.read_all(work, store))
        assert main([*command, str(cluster), "--engine", "ray", "--workers", "1"]) == 0
    finally:
        ray.shutdown()
    assert experiment.grave.exists()
    with opened(tmp_path / "again", {}, Words.columns, False) as store:
        runner.run(work, captioning.load("scenes"), store)
        assert every(runner.read_all(work, store)) == found
    for name in ("summary.json", "summary.md", "summary.tex", "report.html"):
        assert (local / name).read_bytes() == (cluster / name).read_bytes()


def test_a_worker_says_in_one_line_what_it_failed_by(scenes: Path) -> None:
    """Ray would bury it in a report of its own."""

    def broken() -> Adapter:
        raise RuntimeError("shapes\ndo not fit")

    work = runner.Work(Words(scenes), (methods.get("grad-cam"),), 2)
    worker = on_ray.Worker(ray.cloudpickle.dumps((work, broken)), torch.get_num_threads(), False)
    assert worker({"part": [0]})["error"] == ["shapes do not fit"]


def test_what_goes_with_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "words", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main([*command, "--workers", "2"]) == 1
    assert "--workers goes with --engine ray" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "where", "threads", "expected"),
    [
        ({"CPU": 8.0}, on_ray.Cluster(), 2, (4, 2)),
        ({"CPU": 8.0}, on_ray.Cluster(workers=3), 2, (3, 2)),
        ({"CPU": 9.0, "GPU": 4.0}, on_ray.Cluster(), 4, (2, 4)),
        ({"CPU": 16.0, "GPU": 2.0}, on_ray.Cluster(gpus=1), 16, (2, 8)),
        ({"CPU": 16.0, "GPU": 2.0}, on_ray.Cluster(gpus=0.25), 4, (8, 2)),
        ({"CPU": 4.0, "GPU": 8.0}, on_ray.Cluster(gpus=1, workers=2), 1, (2, 1)),
        ({"CPU": 4.0, "GPU": 8.0}, on_ray.Cluster(gpus=1), 4, (8, 1)),
    ],
)
def test_workers_and_their_processors(
    there: dict[str, float], where: on_ray.Cluster, threads: int, expected: tuple[int, int]
) -> None:
    assert on_ray.shared_out(there, where, threads) == expected


def test_a_cluster_without_room() -> None:
    with pytest.raises(ValueError, match="--gpus 1 of each worker: Ray has 0 here"):
        on_ray.shared_out({"CPU": 2.0}, on_ray.Cluster(gpus=1), 2)
    with pytest.raises(ValueError, match="4 threads, as this process does, and Ray has 2 proc"):
        on_ray.shared_out({"CPU": 2.0}, on_ray.Cluster(), 4)
