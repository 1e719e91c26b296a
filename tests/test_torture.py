"""A short form of the campaigns of ``make torture`` (docs/explanation/reliability.md)."""

import os
import subprocess
import sys

import pytest
from paths import ROOT


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, /proc and strace")
def test_campaigns_in_short():
    """They run in another process, because a fork of this one, whose autograd has threads, could not train."""
    command = [sys.executable, "-m", "tests.torture", "--short", "--seed", "0"]
    paths = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
