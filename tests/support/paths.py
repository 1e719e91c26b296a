"""The project's root, and the folder of shared data beside it, which a fresh machine does not have."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
