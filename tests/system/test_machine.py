"""The memory that is left on this machine."""

from pathlib import Path

from vaelab.system.machine import available_memory


def test_available_memory_is_what_the_container_has_left(tmp_path: Path):
    assert 0 < available_memory() < 1 << 50
    limit, used = tmp_path / "max", tmp_path / "current"
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    assert available_memory([(limit, used)]) == 600_000
    limit.write_text("max\n")
    assert available_memory([(limit, used)]) > 600_000
