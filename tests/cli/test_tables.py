"""Tables on terminals of several widths and in a pipe."""

import pytest

from vaelab.cli.terminal import print_table

HEADERS = ("name", "number", "words")
ROWS = [("first-long-name", "1,234", "some words to wrap"), ("second", "−5.25", "more")]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in (("FORCE_COLOR", "1"), ("NO_COLOR", "1"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)  # rich's settings: the output is a terminal
    return monkeypatch


@pytest.mark.parametrize("width", [80, 36, 30, 24])
def test_words_are_whole_and_lines_fit(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal.setenv("COLUMNS", str(width))
    print_table(HEADERS, ROWS)
    out = capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert max(map(len, out.splitlines())) <= width
    assert {word for row in (HEADERS, *ROWS) for cell in row for word in cell.split()} == set(out.split())
    assert out.count("first-long-name") == (1 if width >= 30 else 2)  # the first column is repeated


def test_a_header_is_wrapped_before_the_cells(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "25")
    print_table(("name", "loss to reach"), [("a-long-name", "20 epochs"), ("b", "1,500 epochs")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["b", "1,500", "epochs"]
    assert len(lines) == 4  # two of the header


def test_numbers_are_aligned_on_the_right(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "80")
    print_table(HEADERS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].index("1,234") + 5 == lines[2].index("−5.25") + 5
    print_table(("name", "weights"), [("a", "2.65 M"), ("b", "133 k")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines[1].rstrip()) == len(lines[2].rstrip())


def test_a_pipe_gets_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADERS, ROWS)
    assert capsys.readouterr().out.splitlines()[1] == "\t".join(ROWS[0])
