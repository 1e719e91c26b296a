"""Packages outside vaelab that offer members by entry point, as pip would install them."""

from pathlib import Path


def install(folder: Path, distribution: str, modules: dict[str, str], entry_points: dict[str, dict[str, str]]) -> None:
    """Install a distribution into a folder of ``sys.path``: module → source, group → member → module."""
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in entry_points.items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
