"""The page that shows a run during training: curves, progress, and images from checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from vaelab.explorer.security import SecurityMiddleware
from vaelab.explorer.server import TYPES, page_files

PAGE = Path(__file__).parent / "watch_page"
SHARED = ("style.css", "theme.js", "storage.js", "dom.js", "icon.svg")
"""Files of the explorer's page that this one uses."""
PICTURES = ("samples", "reconstructions")


@dataclass(frozen=True)
class Sheet:
    """Images of one size, side by side without gaps."""

    step: int
    """Step of the checkpoint that they are from."""
    png: bytes
    columns: int
    rows: int


@runtime_checkable
class View(Protocol):
    """Content of the page; called from several threads."""

    def state(self) -> dict[str, Any]:
        """Title, progress and time left."""

    def curves(self) -> dict[str, dict[str, list[float]]]:
        """Curves of training and held-out images."""

    def picture(self, name: str) -> Sheet | None:
        """Pictures from the newest checkpoint."""


def make_app(view: View, host: str) -> ASGIApp:
    """Return the application; ``host`` is the address it listens at."""

    def send_json(read: Callable[[], Any]) -> Callable[[Request], Any]:
        async def answer(_: Request) -> Response:
            try:
                return JSONResponse(await run_in_threadpool(read))
            except (OSError, ValueError) as error:  # the run was removed, or a file of it is damaged
                return JSONResponse({"problem": str(error)}, 503)

        return answer

    async def send_picture(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PICTURES:
            raise HTTPException(404, "no such image")
        try:
            found = await run_in_threadpool(view.picture, name)
        except (OSError, ValueError) as error:
            return JSONResponse({"problem": str(error)}, 503)
        if found is None:
            return Response(status_code=204)
        facts = {"X-Step": str(found.step), "X-Columns": str(found.columns), "X-Rows": str(found.rows)}
        return Response(found.png, media_type="image/png", headers=facts)

    routes = [
        Route("/state", send_json(view.state)),
        Route("/curves", send_json(view.curves)),
        Route("/pictures/{name}", send_picture),
        Route("/{name:path}", _send_page),
    ]
    return SecurityMiddleware(Starlette(routes=routes), host)


def _send_page(request: Request) -> Response:
    name = request.path_params["name"] or "index.html"
    shared = page_files()
    files = {path.name: path for path in PAGE.iterdir() if path.suffix in TYPES}
    path = files.get(name) or (shared[name] if name in SHARED else None)
    if path is None:
        raise HTTPException(404, "no such page")
    return Response(path.read_bytes(), headers={"Content-Type": TYPES[path.suffix]})
