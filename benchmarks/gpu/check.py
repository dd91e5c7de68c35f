"""A check, and what came of it: one that fails is told, and the others go on."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from vlcam.evaluation.tables import table
from vlcam.utils.messages.errors import one_line


@dataclass(frozen=True)
class Settings:
    """How to check: the device, and whether little is to be done, to try the checks themselves."""

    device: torch.device
    quick: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until all that was begun on the device is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Outcome:
    """A line of a section's table.

    Attributes:
        what: was checked.
        found: the figures.
        holds: whether it is as it should be; None where that was not to be found out.
    """

    what: str
    found: str
    holds: bool | None = True

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: "not checked"}[self.holds]


Measure = Callable[[], tuple[str, bool | None]]
"""The figures of one line, and whether they are as they should be."""

Checks = Iterator[tuple[str, Measure]]


@dataclass(frozen=True)
class Section:
    """Checks that belong together.

    Attributes:
        title: of its table.
        about: what is compared, and what is asked of it.
        checks: the lines, each measured when its turn comes.
        budget: seconds; lines that it does not reach are told as not checked.
    """

    title: str
    about: str
    checks: Callable[[Settings], Checks]
    budget: float


@dataclass
class Found:
    """What came of a section."""

    section: Section
    outcomes: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Nothing is otherwise than it should be, and all was reached in time."""
        return all(one.holds is not False for one in self.outcomes)

    def markdown(self) -> str:
        rows = [(one.what, one.found, one.verdict) for one in self.outcomes]
        about = f"{self.section.about} {self.seconds:.0f} s (of {self.section.budget:.0f})."
        return f"## {self.section.title}\n\n{about}\n\n" + table(
            ("", "found", "as it should be"), rows
        )


def run(section: Section, settings: Settings, left: float) -> Found:
    """Every line, whatever happens to the others.

    Args:
        left: seconds that the whole may still take.
    """
    found, begun = Found(section), time.perf_counter()
    budget = float("inf") if settings.quick else min(section.budget, left)
    try:
        for what, measure in section.checks(settings):
            late = time.perf_counter() - begun > budget
            found.outcomes.append(
                Outcome(what, "no time left", False) if late else _outcome(what, measure)
            )
            print(_line(found.outcomes[-1]), file=sys.stderr)
    except Exception as error:  # of what makes the list of checks itself
        found.outcomes.append(_failed(section.title, error))
        print(_line(found.outcomes[-1]), file=sys.stderr)
    found.seconds = time.perf_counter() - begun
    return found


def _outcome(what: str, measure: Measure) -> Outcome:
    try:
        figures, holds = measure()
    except Exception as error:
        return _failed(what, error)
    return Outcome(what, figures, holds)


def _failed(what: str, error: Exception) -> Outcome:
    """A package that the machine lacks is no fault; anything else is."""
    if isinstance(error, ModuleNotFoundError):
        return Outcome(what, f"{error.name} is missing", None)
    traceback.print_exc()
    where = traceback.extract_tb(error.__traceback__)[-1]
    reason = one_line(error)[:200].replace("|", "/")
    return Outcome(
        what, f"{type(error).__name__}: {reason} ({where.filename}:{where.lineno})", False
    )


def _line(outcome: Outcome) -> str:
    return f"  {outcome.verdict:12}{outcome.what}: {outcome.found}"
