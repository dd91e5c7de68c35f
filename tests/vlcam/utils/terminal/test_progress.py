"""Progress of long work, by a clock of the test's own."""

from __future__ import annotations

import io
import sys
from threading import Thread

import pytest

from vlcam.utils.terminal import progress
from vlcam.utils.terminal.progress import duration


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_every_ten_seconds_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock, told = Clock(), []
    with progress.shown(clock):
        for _ in progress.each(range(50), "photos", unit="photo"):
            told.append(capsys.readouterr().err)
            clock.now += 0.5
    told.append(capsys.readouterr().err)
    assert {number: line for number, line in enumerate(told) if line} == {
        20: "photos: 20 of 50 (40 %), 2.0/s, about 15 s left\n",
        40: "photos: 40 of 50 (80 %), 2.0/s, about 5 s left\n",
        50: "photos: 50 of 50 (100 %), 2.0/s, after 25 s\n",
    }


def test_work_that_is_soon_over_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress.shown(clock):
        for _ in progress.each(range(99), "photos", unit="photo"):
            clock.now += 0.1
        for _ in progress.each(["one"], "photos", unit="photo"):  # 0 of 1, then 1 of 1: no news
            clock.now += 100
    assert capsys.readouterr() == ("", "")


def test_what_was_done_before_is_not_of_the_rate(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress.shown(clock), progress.of("photos", 5000, unit="photo", done=4000) as work:
        work.note("loss 2.31")
        clock.now += 20
        work.advance(5)
    assert capsys.readouterr().err == (
        "photos: 4,005 of 5,000 (80 %), 4.0 s each, about 1 h 06 min left, loss 2.31\n"
    )


def test_how_many_there_are_may_be_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with progress.shown(clock):
        for number in progress.each(iter(range(3)), "photos", unit="photo"):
            clock.now += 11 * (number == 1)
    assert capsys.readouterr().err.splitlines() == [
        "photos: 2, 5.5 s each, after 11 s",
        "photos: 3, 3.7 s each, after 11 s",
    ]


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with (
        pytest.raises(ValueError, match="damaged"),
        progress.shown(clock),
        progress.of("photos", 3, unit="photo") as work,
    ):
        clock.now += 30
        work.advance()
        raise ValueError("damaged")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_nothing_is_told_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()

    def work() -> None:
        for _ in progress.each(range(3), "photos", unit="photo"):
            clock.now += 100

    work()
    with progress.shown(clock):  # by this thread, not for others
        thread = Thread(target=work)
        thread.start()
        thread.join()
    work()
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.shown():
        for number in progress.each(range(4), "photos", unit="photo"):
            if number == 2:
                with progress.aside():
                    print("skipped: a.jpg", file=sys.stderr)
    assert "photos: 100%" in terminal.getvalue() and "4/4" in terminal.getvalue()
    assert "\rskipped: a.jpg\n" in terminal.getvalue()  # on a line of its own


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59, "59 s"), (90, "2 min"), (3590, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
