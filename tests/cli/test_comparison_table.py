"""The table of a comparison on a terminal and in a pipe."""

from typing import Any

import pytest

import vaelab
from vaelab.cli.comparisons import print_comparison
from vaelab.evaluation.metrics import Quantity


def comparison(rows: list[dict[str, Any]], *quantities: Quantity) -> vaelab.Comparison:
    return vaelab.Comparison([{"label": "a", "seed": 0, **row} for row in rows], quantities, (), [], {})


@pytest.mark.parametrize(
    ("values", "error", "digits", "shown"),
    [
        ([-467.736], 0.234, 2, "−467.74 ± 0.23"),
        ([635996], None, 0, "635,996"),
        ([5.64123], 0.0032, 2, "5.641 ± 0.003"),
        ([6, 7], None, 0, "6.5 ± 0.5"),
        ([6, 6], 0.3, 0, "6"),
        ([None, 2.0], None, 2, "2.00"),
        ([9.2084, 9.2084 + 1e-8], None, 2, "9.21 ± 0.00"),
        ([9.2084, 9.2084 + 2e-6], None, 2, "9.208401 ± 0.000001"),
    ],
)
def test_cells(
    capsys: pytest.CaptureFixture[str], values: list[float | None], error: float | None, digits: int, shown: str
) -> None:
    errors = {} if error is None else {"x_standard_error": error}
    rows = [{"x": value, "seed": i, **errors} for i, value in enumerate(values)]
    print_comparison(comparison(rows, Quantity("x", "x", digits=digits)))
    assert f"x\t{shown}\n" in capsys.readouterr().out


def test_unknown_quantities_have_no_row_or_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"x": 1.0, "y": None}, {"x": None, "y": None, "label": "b"}]
    print_comparison(comparison(rows, Quantity("x", "x"), Quantity("y", "y")))
    assert [line.split("\t") for line in capsys.readouterr().out.splitlines()[:-1]] == [
        ["", "a", "b"],
        ["x", "1.00", "–"],
    ]


def test_copies_of_a_run_are_not_called_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    for seed, words in ((0, "a (2 runs)"), (1, "a (2 seeds)")):
        print_comparison(comparison([{"x": 1.0}, {"x": 1.0, "seed": seed}], Quantity("x", "x")))
        assert capsys.readouterr().out.splitlines()[0].endswith(words)


def test_table_is_split_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    quantities = (Quantity("x", "reconstruction", "nats"), Quantity("y", "accuracy of the majority's answer", "share"))
    print_comparison(comparison([{"x": 1.0, "y": 1.0, "label": f"β = {i} and more"} for i in range(9)], *quantities))
    lines = capsys.readouterr().out.splitlines()
    assert sum("reconstruction, nats" in line for line in lines) == 5
    assert sum(line.count("and more") for line in lines) == 9
