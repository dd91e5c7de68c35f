"""Reads mutated files under a limit of memory: ``python -m tests.tools.fuzzing --mutations 5000``.

Each must give a result, or one line of a ValueError or an OSError, soon, and nothing may be run or
written meanwhile. What does not is printed and its folder kept in ``--keep``.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.tools.fuzzing.corpora import CORPORA, Corpus
from tests.tools.fuzzing.mutations import generated, mutated

_ROOM = 3 * 2**29  # bytes of address space for all readers, on top of what is taken already
_LONGEST = 120  # seconds for one file, on a machine with other things to do
_MOST_WORK = 20  # seconds of the processor
_LONGEST_MESSAGE = 1500
_RUN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
        "socket.connect", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.")  # fmt: skip

_seen: list[str] = []
_watching = False


def _audit(event: str, details: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if details and ".vlcam" in str(details[0]):
        return  # what a killed command left is cleared away
    writes = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+")
    if event.startswith(_RUN) or writes:
        _seen.append(f"{event} {details!r}"[:200])


def _failure(corpus: Corpus, folder: Path) -> str | None:
    """What reading the folder did that it must not; None: nothing."""
    global _watching
    _seen.clear()
    faulthandler.dump_traceback_later(_LONGEST, exit=True)
    _watching = True
    try:
        corpus.read(folder)
    except (ValueError, OSError) as error:
        text = str(error)
        if "\n" in text or not text or len(text) > _LONGEST_MESSAGE:
            return f"a message of {len(text)} characters: {text[:300]!r}"
    except BaseException as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-4:]
        lines = " < ".join(f"{Path(one.filename).name}:{one.lineno}" for one in reversed(where))
        return f"{type(error).__name__}: {str(error)[:300]!r} ({lines})"
    finally:
        _watching = False
        faulthandler.cancel_dump_traceback_later()
    return f"it ran {_seen[0]}" if _seen else None


def _mutation(random: Random, valid: Path, folder: Path) -> None:
    """A copy of the valid files, one of them mutated."""
    shutil.copytree(valid, folder, copy_function=os.link)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = random.choice(files)
    data = file.read_bytes()
    file.unlink()
    new = generated(random) if file.suffix == ".pkl" and random.random() < 0.3 else None
    file.write_bytes(mutated(random, data) if new is None else new)


def run(mutations: int, seed: int, only: str, keep: Path | None) -> int:
    failures: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        valid = {corpus.name: Path(scratch, f"valid {corpus.name}") for corpus in CORPORA}
        corpora = [corpus for corpus in CORPORA if only in corpus.name]
        for corpus in corpora:
            corpus.write(valid[corpus.name])
            corpus.read(valid[corpus.name])  # also imports what reading needs
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, taken + _ROOM))
        for corpus in corpora:
            started, longest = time.thread_time(), 0.0
            for number in range(max(1, mutations // corpus.cost)):
                random = Random(f"{corpus.name} {seed} {number}")
                folder = Path(scratch, "mutated")
                _mutation(random, valid[corpus.name], folder)
                before = time.thread_time()
                failure = _failure(corpus, folder)
                worked = time.thread_time() - before
                if failure is None and worked > _MOST_WORK:
                    failure = f"it took {worked:.0f} s"
                longest = max(longest, worked)
                if failure is not None:
                    failures[corpus.name] += 1
                    print(f"{corpus.name} {seed} {number}: {failure}", flush=True)
                    if keep is not None:
                        shutil.copytree(folder, keep / f"{corpus.name} {seed} {number}")
                shutil.rmtree(folder)
            took = time.thread_time() - started
            print(
                f"{corpus.name}: {number + 1} in {took:.1f} s, at most {longest:.2f} s", flush=True
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{sum(failures.values())} failures; at most {peak} MiB were taken")
    return 1 if failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=100, help="of each cheap reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose names hold this")
    parser.add_argument("--keep", type=Path, help="a folder for files that fail")
    args = parser.parse_args()
    sys.addaudithook(_audit)
    warnings.simplefilter("ignore")
    sys.exit(run(args.mutations, args.seed, args.only, args.keep))
