"""Running an experiment on Ray Data, on this machine or a cluster: actors, each with a model of its
own, measure parts; this process writes them. A part whose worker died is measured again.

Workers compute with as many threads as this process, so that the same records come out, bit for
bit. They read models and photos by the paths given here, so these must be there too.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from vlcam.adapters.adapter import Adapter
from vlcam.evaluation.runner import Work, measure
from vlcam.evaluation.store import Part, Store
from vlcam.models import families_that_attend
from vlcam.utils.allocator import keep_freed_memory
from vlcam.utils.messages.errors import one_line
from vlcam.utils.terminal import progress


@dataclass(frozen=True)
class Cluster:
    """Where to run.

    Attributes:
        address: of a cluster; None: start Ray on this machine.
        workers: how many; None: as many as the processors allow (or the GPUs, with ``gpus``).
        gpus: of each worker: 0, a share of one, or 1.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0


def run(work: Work, load: Callable[[], Adapter], store: Store, where: Cluster) -> None:
    """Make the parts that are missing; each worker calls ``load`` for a model of its own.

    Raises:
        ValueError: Ray is not installed; or what a worker failed by.
    """
    try:
        import ray
        from ray.data import ActorPoolStrategy
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'vlcam[ray]'") from error
    every, done = work.parts, store.done()
    missing = [number for number in range(len(every)) if number not in done]
    if not missing:
        return
    started = not ray.is_initialized()
    if started:
        # Else each worker's restart is announced as an error, before there was any.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        ray.init(address=where.address, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        there = ray.cluster_resources()
        workers, processors = shared_out(there, where, torch.get_num_threads())
        # A block a part, made here: no task of its own may wait for a processor of the workers'.
        rows = [{"part": number} for number in missing]
        measured = ray.data.from_items(rows, override_num_blocks=len(missing)).map_batches(
            Worker,
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=processors,
            num_gpus=where.gpus or None,
            fn_constructor_args=(
                ray.cloudpickle.dumps((work, load)),
                processors,
                where.gpus > 0,
            ),
        )
        count, left = sum(map(len, every)), sum(len(every[n]) for n in missing)
        with progress.of("photos", count, unit="photo", done=count - left) as told:
            for row in measured.iter_rows():
                number = int(row["part"])
                if row["error"]:
                    raise ValueError(row["error"])
                store.write(number, Part(json.loads(row["records"]), json.loads(row["skipped"])))
                told.advance(len(every[number]))
    finally:
        if started:
            ray.shutdown()


def shared_out(there: Mapping[str, float], where: Cluster, threads: int) -> tuple[int, int]:
    """How many workers, as many as fit unless it is said, and the processors of each.

    Args:
        there: the cluster's resources, as Ray names them.
        threads: this process's. Workers on a GPU may have to do with fewer, as little is computed
            beside it.

    Raises:
        ValueError: there is no room for a single worker.
    """
    processors, gpus = there.get("CPU", 0), there.get("GPU", 0)
    if where.gpus > gpus:
        raise ValueError(f"--gpus {where.gpus:g} of each worker: Ray has {gpus:g} here")
    if where.gpus:
        workers = where.workers or int(gpus / where.gpus)
        return workers, max(1, min(threads, int(processors / workers)))
    if threads > processors:
        raise ValueError(
            f"each worker computes with {threads} threads, as this process does, and Ray has"
            f" {processors:g} processors here; set OMP_NUM_THREADS"
        )
    return where.workers or int(processors / threads), threads


class Worker:
    """One actor: a model, loaded once, and what to do with each photo."""

    def __init__(self, work: bytes, threads: int, gpu: bool) -> None:
        keep_freed_memory()
        torch.set_num_threads(threads)
        self.work: Work
        self.work, self._load = pickle.loads(work)
        self._gpu = gpu

    @cached_property
    def model(self) -> Adapter:
        model: Adapter = self._load()
        if self._gpu:
            model.module.cuda()
        return model

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        number, part, told = int(batch["part"][0]), Part([], []), ""
        try:
            with families_that_attend():
                part = measure(self.work, self.model, self.work.parts[number])
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            told = one_line(error)  # which Ray would bury in a report of its own
        return {
            "part": [number],
            "records": [json.dumps(list(part.records))],
            "skipped": [json.dumps(list(part.skipped))],
            "error": [told],
        }
