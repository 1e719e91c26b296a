"""The command vaelab explore."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from typed import TINY_WORDS, Typed, train_small
from wording import Wording

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("runs") / "digits", {"network.latent_dim": 3}).path


def read_json(url: str) -> object:
    """The JSON at a URL, once the server has loaded it."""
    while True:
        with urllib.request.urlopen(url) as answer:
            if answer.status == 200:
                return json.load(answer)
        time.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the browser")
def test_two_runs_are_served_until_ctrl_c(trained: Path, tmp_path: Path):
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 >> {opened}\n")
    browser.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = [str(trained), str(trained), "--points", "40", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "vaelab", "explore", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": f"{browser} %s"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            url = process.stdout.readline().split()[0]
            assert url.startswith("http://127.0.0.1:")
            assert str(port) not in url
            with urllib.request.urlopen(url) as page:
                assert b"<html" in page.read()
            assert read_json(f"{url}runs") == ["digits", "digits"]
            manifest = read_json(f"{url}runs/1/manifest")
            assert isinstance(manifest, dict)
            assert (manifest["count"], manifest["total"], manifest["latent_dim"]) == (40, 1438, 3)
            for _ in range(2):
                line = process.stdout.readline()
                assert all(fact in line for fact in ("digits", "40", "1,438", "3"))
            with socket.create_connection(("127.0.0.1", int(url.rstrip("/").rpartition(":")[2]))) as hanging:
                hanging.sendall(b"POST /runs/0/decode HTTP/1.1\r\nHost: localhost\r\n")
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 0
            assert process.stdout.read() == "ended\n"
            notes = process.stderr.read().splitlines()
            assert len(notes) == 1, "\n".join(notes)
            (note,) = notes
            assert str(port) in note
            assert opened.read_text().split() == [url]
        finally:
            process.kill()
            process.communicate()


def test_wrong_usage_is_one_line(cli: Typed, trained: Path, tmp_path: Path, wording: Wording):
    for words, code in (
        ([trained] * 3, 2),
        (["nowhere"], 1),
        ([trained, "--host", "nowhere.invalid"], 1),
        ([trained, "--data", tmp_path / "none"], 1),
    ):
        found, _, err = cli("explore", *words, "--no-browser", "--port", 0)
        assert (found, err.count("\n")) == (code, 1)
        wording(err)


def test_a_public_server_is_announced(cli: Typed, trained: Path, tmp_path: Path):
    words = ("--host", "0.0.0.0", "--port", 0, "--no-browser", "--data", tmp_path / "none")
    _, out, err = cli("explore", trained, *words)  # ends with an error, after it has said where it listens
    assert out.startswith("http://127.0.0.1:")
    assert "warning" in err.splitlines()[0]


def test_a_training_opens_its_page_and_ends_it(tmp_path: Path):
    words = [*TINY_WORDS, "--steps", "9000", "--run", str(tmp_path / "run"), "--live"]
    words = [word for word in words if word != "training.steps=60"]
    words = [word for i, word in enumerate(words) if not (word == "--set" and words[i + 1] in ("--set", "--steps"))]
    process = subprocess.Popen(
        [sys.executable, "-m", "vaelab", "train", "digits", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "DISPLAY": "", "BROWSER": ""},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        url = process.stderr.readline().removeprefix("live page: ").strip()
        with urllib.request.urlopen(f"{url}state") as answer:
            assert json.load(answer)["steps"] == 9000
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
        with pytest.raises(OSError):
            urllib.request.urlopen(f"{url}state", timeout=5)
    finally:
        process.kill()
        process.communicate()
