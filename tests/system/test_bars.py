"""Progress of tasks on stderr."""

import time

import pytest

from vaelab.system.bars import ProgressDisplay
from vaelab.system.progress import progress, show_progress


def run_task(capsys: pytest.CaptureFixture[str], *, total: int | None = 3) -> list[str]:
    display = ProgressDisplay(to_stderr=True)
    with show_progress(display), progress("counting", total) as task:
        for _ in range(3):
            task.advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


@pytest.mark.parametrize(("total", "last"), [(3, "counting: 3 of 3"), (None, "counting: 3")])
def test_lines_tell_how_much_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int | None, last: str
) -> None:
    monkeypatch.setenv("VAELAB_PROGRESS_SECONDS", "0")
    lines = run_task(capsys, total=total)
    assert (len(lines), lines[-1]) == (3, last)


def test_short_tasks_print_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_PROGRESS_SECONDS", "1000")
    assert run_task(capsys) == []


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)  # rich's settings: the output is a terminal
    display = ProgressDisplay(to_stderr=True)
    with show_progress(display), progress("outer", 2) as outer:
        with progress("inner", 1) as inner:
            inner.advance(1)
            time.sleep(0.25)  # the bars are drawn ten times a second
        outer.advance(1)
    err = capsys.readouterr().err
    assert all(label in err for label in ("outer", "inner", "%"))
    assert "outer: " not in err


def test_the_display_ends_with_its_context() -> None:
    seen: list[str] = []
    with show_progress(lambda task: seen.append(task.label)), progress("one", 1):
        pass
    with progress("two", 1):
        pass
    assert set(seen) == {"one"}
