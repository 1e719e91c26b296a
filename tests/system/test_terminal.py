"""Lines of text on a terminal."""

import pytest

from vaelab.system.messages import count_of
from vaelab.system.terminal import print_text, wrap

TEXT = "vaelab: the-longest-word-keeps-its-line /a/path/that/is/longer/than/the/line and three short words"


def test_lines_are_broken_between_words_and_continue_indented() -> None:
    assert wrap(TEXT, 30).splitlines() == [
        "vaelab:",
        "  the-longest-word-keeps-its-line",
        "  /a/path/that/is/longer/than/the/line",
        "  and three short words",
    ]
    assert wrap("    an indented line goes on", 20) == "    an indented line\n      goes on"
    assert wrap("one\n\ntwo", 20) == "one\n\ntwo"
    assert wrap("a  b", 20) == "a  b"


def test_text_is_only_wrapped_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_text(TEXT)
    assert capsys.readouterr().out == f"{TEXT}\n"
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm-256color"), ("COLUMNS", "50")):
        monkeypatch.setenv(name, value)  # rich's settings: the output is a terminal
    print_text(TEXT, to_stderr=True)
    assert capsys.readouterr().err == f"{wrap(TEXT, 50)}\n"


def test_counts_agree_with_their_noun() -> None:
    assert [count_of(n, "image") for n in (0, 1, 2, 60_000)] == ["0 images", "1 image", "2 images", "60,000 images"]
    assert count_of(2, "batch", "batches") == "2 batches"
