"""Servers of downloads, in this process, that answer, lie, break off and stall."""

import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from servers import LocalServer

GOOD = bytes(range(256)) * 40
Answer = Callable[[BaseHTTPRequestHandler], None]


def send(body: bytes = b"", status: int = 200, promised: int | None = None) -> Answer:
    """Answers with ``body``, whose length is given as ``promised``, and hangs up."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body) if promised is None else promised))
        request.end_headers()
        request.wfile.write(body)

    return answer


class Server:
    """A mirror: the last of the answers given for a path is repeated, every other path is a 404."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: Counter[str] = Counter()
        self.released = threading.Event()
        self._server = LocalServer(self._respond)
        self.place = self._server.place
        self.url = f"http://{self.place}/"

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        answers = self.answers.get(request.path, [send(status=404)])
        number = self.asked[request.path]
        self.asked[request.path] += 1
        answers[min(number, len(answers) - 1)](request)

    def stall(self, sent_first: bytes = b"") -> Answer:
        """Says nothing more after a first piece, until the server closes."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            if sent_first:
                request.send_response(200)
                request.send_header("Content-Length", str(len(GOOD)))
                request.end_headers()
                request.wfile.write(sent_first)
            self.released.wait(10)

        return answer

    def close(self) -> None:
        self.released.set()
        self._server.close()


def list_paths(folder: Path) -> list[str]:
    """Paths of everything in or below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
