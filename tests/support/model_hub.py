"""A server in this process with the part of the hub's HTTP interface that its library uses for models."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from huggingface_hub import constants
from servers import LocalServer

LICENCES = {"mit", "apache-2.0", "cc-by-4.0", "other"}
LARGE = (".safetensors", ".onnx", ".png")
"""Endings of the files that are uploaded by the protocol of large files."""
WRITE, READ = "hf_writetoken", "hf_readtoken"


@dataclass
class Repository:
    """A repository: its versions, oldest first, each the files by name."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Return commit and files of a branch, tag or commit; None if there is no such."""
        wanted = self.tags.get(revision, revision)
        return next((found for found in reversed(self.commits) if wanted in ("main", found[0])), None)

    def add(self, files: dict[str, bytes]) -> str:
        """Commit these files and return the commit."""
        commit = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits.append((commit, files))
        return commit


class ModelHub:
    """Repositories of the user "me", whose token is WRITE; READ may read only. Keeps every byte that is sent to it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.received: list[bytes] = []
        self.asked: list[str] = []
        self.status: int | None = None
        """Status with which all requests fail."""
        self._server = LocalServer(self._respond)
        self.url = f"http://{self._server.place}"
        self.close = self._server.close

    def _respond(self, request: BaseHTTPRequestHandler) -> None:
        self._request = request
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(request.path).path)
        self.received += [body, request.path.encode()]
        self.asked.append(f"{request.command} {path}")
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.status is not None:
            return answer(request, self.status, b"out of order")
        if token not in ("", WRITE, READ):
            message = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return answer(request, 401, b"", message)
        for pattern, handle in self._routes().items():
            if found := re.fullmatch(pattern, f"{request.command} {path}"):
                return handle(request, token, body, **found.groupdict())
        return answer(request, 404, b"")

    def _routes(self) -> dict[str, Callable[..., None]]:
        name, at = r"(?P<name>[^/]+/[^/]+?)", r"(?P<revision>[^/]+)"
        return {
            "POST /api/repos/create": self._create,
            "POST /api/validate-yaml": self._validate,
            rf"GET /api/models/{name}": self._describe,
            rf"GET /api/models/{name}/revision/{at}": self._describe,
            rf"GET /api/models/{name}/tree/{at}": self._list,
            rf"POST /api/models/{name}/preupload/{at}": self._choose_protocol,
            rf"POST /{name}\.git/info/lfs/objects/batch": self._offer,
            r"PUT /upload/(?P<oid>\w+)": self._store,
            rf"POST /api/models/{name}/commit/{at}": self._commit,
            rf"(?:HEAD|GET) /{name}/resolve/{at}/(?P<file>.+)": self._send,
        }

    def _find(
        self, request: BaseHTTPRequestHandler, token: str, name: str, *, write: bool = False
    ) -> Repository | None:
        """Return a repository, or answer that there is none or that it is not allowed."""
        found = self.repositories.get(name)
        if found is None or (found.private and not token):
            answer(request, 404 if token else 401, b"Repository not found", {"X-Error-Code": "RepoNotFound"})
        elif write and (token != WRITE or not name.startswith("me/")):
            answer(request, 403, b"", {"X-Error-Message": "no permission"})
        else:
            return found
        return None

    def _create(self, request: BaseHTTPRequestHandler, token: str, body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if token != WRITE or asked["organization"] != "me":
            return answer(request, 403, b"", {"X-Error-Message": "no permission"})
        is_new = name not in self.repositories
        if is_new:
            self.repositories[name] = Repository(asked.get("visibility") == "private" or bool(asked.get("private")))
            self.repositories[name].add({".gitattributes": b"*.safetensors filter=lfs\n"})
        return answer_json(request, {"url": f"{self.url}/{name}"}, 200 if is_new else 409)

    def _validate(self, request: BaseHTTPRequestHandler, token: str, body: bytes) -> None:
        content = json.loads(body)["content"]
        metadata = yaml.safe_load(content.split("---\n")[1])
        errors = []
        if (licence := metadata.get("license")) is not None and licence not in LICENCES:
            errors.append({"message": f'"license" must be one of {sorted(LICENCES)}'})
        for model in metadata.get("model-index", []):
            for result in model["results"]:
                assert result["task"]["type"]
                assert result["dataset"]["type"]
                assert result["metrics"][0]["value"] is not None
        answer_json(request, {"errors": errors, "warnings": [{"message": "be kind"}]}, 400 if errors else 200)

    def _describe(
        self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str, revision: str = "main"
    ) -> None:
        if (repository := self._find(request, token, name)) is not None:
            if (found := repository.at(revision)) is None:
                return answer(request, 404, b"", {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": file} for file in found[1]]
            about = {"_id": "1", "id": name, "sha": found[0], "private": repository.private, "siblings": siblings}
            return answer_json(request, {**about, "tags": [], "downloads": 0, "likes": 0})
        return None

    def _list(self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str, revision: str) -> None:
        if (repository := self._find(request, token, name)) is not None:
            found = repository.at(revision)
            assert found is not None
            answer_json(request, [{"type": "file", "path": file, **_describe_file(c)} for file, c in found[1].items()])

    def _choose_protocol(
        self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str, revision: str
    ) -> None:
        if self._find(request, token, name, write=True) is not None:
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            answer_json(request, {"files": files})

    def _offer(self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str) -> None:
        if self._find(request, token, name, write=True) is not None:
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.url}/upload/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            answer_json(request, {"transfer": "basic", "objects": objects})

    def _store(self, request: BaseHTTPRequestHandler, token: str, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.blobs[oid] = body
        answer(request, 200, b"")

    def _commit(self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str, revision: str) -> None:
        if (repository := self._find(request, token, name, write=True)) is None:
            return
        latest = repository.at(revision)
        assert latest is not None
        files = dict(latest[1])
        for line in body.splitlines():
            entry = json.loads(line)
            value: dict[str, Any] = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.add(files)
        answer_json(request, {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit})

    def _send(
        self, request: BaseHTTPRequestHandler, token: str, body: bytes, name: str, revision: str, file: str
    ) -> None:
        if (repository := self._find(request, token, name)) is None:
            return None
        found = repository.at(revision)
        assert found is not None
        if file not in found[1]:
            return answer(request, 404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": found[0]})
        content = found[1][file]
        return answer(
            request, 200, content, {"X-Repo-Commit": found[0], "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        )


def _describe_file(content: bytes) -> dict[str, Any]:
    return {"size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def answer(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Answer a request; a HEAD without the body."""
    request.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)


def answer_json(request: BaseHTTPRequestHandler, content: object, status: int = 200) -> None:
    answer(request, status, json.dumps(content).encode(), {"Content-Type": "application/json"})


def point_to(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Let the hub's library, which reads its settings once, speak to another server, without its own protocol."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@contextmanager
def serve_models() -> Iterator[ModelHub]:
    """Run the server."""
    server = ModelHub()
    try:
        yield server
    finally:
        server.close()
