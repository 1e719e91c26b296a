"""The explorer as an object: its server, its page, and how it shows itself in a notebook."""

from html import unescape
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import jaxtyping
import pytest
from typed import train_small

import vaelab
from vaelab.system.errors import UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> vaelab.Run:
    return train_small(tmp_path_factory.mktemp("runs") / "a&b", {"training.steps": 2})


def test_a_cell_shows_the_page_of_a_server_until_it_is_closed(run: vaelab.Run) -> None:
    explorer = vaelab.explore(run, show="server")
    assert repr(explorer) == "Explorer(a&b)"
    shown = explorer._repr_html_()
    assert f'data="{explorer.url}"' in shown
    assert 'title="Explorer(a&amp;b)"' in shown
    assert 'show="page"' in unescape(shown)
    with urlopen(explorer.url) as answer:
        assert "frame-ancestors" not in answer.headers["Content-Security-Policy"]
    explorer.close()
    with pytest.raises(URLError):
        urlopen(explorer.url)


def test_the_server_ends_with_the_object(run: vaelab.Run) -> None:
    url = vaelab.explore(run, show="server").url
    with pytest.raises(URLError):
        urlopen(url)


def test_without_the_runtime_a_cell_says_what_is_missing(
    run: vaelab.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 22 10.0.0.2 22")
    explorer = vaelab.explore(run)
    assert "onnxruntime-web" in explorer._repr_html_()
    with pytest.raises(UsageError):
        explorer.page()


def test_two_runs_have_no_page(run: vaelab.Run, wording) -> None:
    with pytest.raises(UsageError) as caught:
        vaelab.explore([run, run]).page()
    wording(caught.value)


def test_another_way_to_show_it_is_refused(run: vaelab.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(UsageError) as caught:
        vaelab.explore(run, show="frame")  # type: ignore[arg-type]
    assert caught.value.choices == ("auto", "page", "server")
