"""The wording of messages, kept in tests/messages.json, so that a better sentence changes one file and no test."""

import json
import os
import re
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "messages.json"


SESSION_FOLDER = re.compile(r"[^\s'\"]*/pytest-of-[^/]+/pytest-\d+(/popen-gw\d+)?/[^/\s'\"]+")
"""Folder of a fixture that several tests share."""


class Wording:
    """Compares messages with those recorded for a test, or records them (``pytest --update-messages``)."""

    def __init__(self, test: str, folder: Path, is_updating: bool) -> None:
        self._test, self._folder, self._is_updating, self._seen = test, folder, is_updating, list[str]()

    def __call__(self, message: object) -> None:
        """Check one message, the next of this test. Paths of the test's folder become ``TMP``."""
        text = str(message).replace(os.fspath(self._folder), "TMP")
        text = SESSION_FOLDER.sub("TMP_SESSION", text)
        self._seen.append(re.sub(r"[ \t]+$", "", text, flags=re.M))
        if not self._is_updating:
            recorded = json.loads(FILE.read_text(encoding="utf-8")).get(self._test, [])
            number = len(self._seen)
            assert number <= len(recorded), f"no message {number} of this test is recorded: make messages\n{text}"
            assert self._seen[-1] == recorded[number - 1], "reworded? make messages records it; then read the diff"

    def finish(self) -> None:
        """Write the messages seen, where they are being recorded."""
        if self._is_updating:
            known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
            if self._seen:
                known[self._test] = self._seen
            else:
                known.pop(self._test, None)
            text = json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False)
            FILE.write_text(text + "\n", encoding="utf-8")


def add_option(parser: pytest.Parser) -> None:
    """The option that records messages."""
    parser.addoption("--update-messages", action="store_true", help="record the wording of messages (without -n)")
