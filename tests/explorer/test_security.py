"""Host and Origin checks, and the headers of every answer."""

import socket

import numpy as np
import pytest
from exploring import make_annotated, make_small_payload
from jaxtyping import Float, UInt8
from starlette.testclient import TestClient

from vaelab.explorer import server
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import ServedRun

BARE = {"Content-Type": "application/octet-stream"}
URL = "http://127.0.0.1:8765"
OWN = ("127.0.0.1:8765", "localhost:8765", "LOCALHOST", "[::1]:8765", "127.0.0.1:9000")
FOREIGN = (
    "evil.example",
    "evil.example:8765",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "",
    "a b",
)


class FailingWorker(InferenceWorker):
    """Cannot decode."""

    def decode(
        self, codes: Float[np.ndarray, "n latent"], condition: Float[np.ndarray, " condition"] | None = None
    ) -> UInt8[np.ndarray, "n height width channel"]:
        raise RuntimeError("a secret of the inside")


@pytest.fixture(scope="module")
def served() -> ServedRun:
    payload, vae = make_small_payload(make_annotated(), network__latent_dim=3)
    return ServedRun(payload, InferenceWorker(vae))


@pytest.fixture(scope="module")
def client(served: ServedRun) -> TestClient:
    return TestClient(server.make_app([served], "127.0.0.1"), base_url=URL)


@pytest.mark.parametrize("host", OWN)
def test_requests_under_its_own_name_are_answered(client: TestClient, host: str):
    assert client.get("/runs", headers={"Host": host}).status_code == 200
    same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin", **BARE}
    assert client.post("/runs/0/decode", content=bytes(12), headers=same).status_code == 200


def test_requests_under_two_names_are_refused(client: TestClient):
    for hosts in ((OWN[0], FOREIGN[0]), (OWN[0], OWN[0])):
        assert client.get("/runs", headers=[("Host", host) for host in hosts]).status_code == 403


@pytest.mark.parametrize("host", FOREIGN)
def test_requests_under_another_name_are_refused(client: TestClient, host: str):
    for path in ("/", "/runs/0/manifest"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.text.count("\n")) == (403, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_requests_of_another_page_are_refused(client: TestClient, said: dict[str, str]):
    for path in ("/", "/runs", "/main.js"):
        assert client.get(path, headers=said).status_code == 403
    assert client.post("/runs/0/decode", content=bytes(12), headers={**BARE, **said}).status_code == 403


def test_a_link_to_the_page_may_be_followed(client: TestClient):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/runs/0/manifest", headers=link).status_code == 403


def test_only_a_page_that_knows_the_token_may_frame_this_one(served: ServedRun):
    client = TestClient(server.make_app([served], "127.0.0.1", frame_token="secret"), base_url=URL)
    for destination in ("iframe", "object"):
        said = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": destination}
        framed = client.get("/?frame=secret", headers=said)
        assert framed.status_code == 200
        assert "frame-ancestors" not in framed.headers["content-security-policy"]
        for address in ("/", "/?frame=", "/?frame=other", "/runs?frame=secret", "/runs/0/manifest?frame=secret"):
            assert client.get(address, headers=said).status_code == 403
    assert "frame-ancestors 'none'" in client.get("/").headers["content-security-policy"]
    without = TestClient(server.make_app([served], "127.0.0.1"), base_url=URL)
    assert without.get("/?frame=", headers=said).status_code == 403


def test_a_public_server_answers_any_address_but_no_foreign_name(served: ServedRun):
    for host in ("0.0.0.0", "::", "box.local"):
        others = TestClient(server.make_app([served], host), base_url=URL)
        for name in ("192.168.1.5:8765", "[fe80::1]:8765", "localhost:8765", socket.gethostname()):
            assert others.get("/runs", headers={"Host": name}).status_code == 200
        assert others.get("/runs", headers={"Host": "evil.example"}).status_code == 403
    assert others.get("/runs", headers={"Host": "BOX.local:80"}).status_code == 200


def test_every_answer_has_the_security_headers(client: TestClient, served: ServedRun):
    _, vae = make_small_payload(make_annotated(), network__latent_dim=3)
    broken = server.make_app([ServedRun(served.payload, FailingWorker(vae))], "127.0.0.1")
    failing = TestClient(broken, base_url=URL, raise_server_exceptions=False)
    failed = failing.post("/runs/0/decode", content=bytes(12), headers=BARE)
    assert (failed.status_code, failed.text) == (500, "Internal Server Error")
    answers = [client.get(path) for path in ("/", "/runs/0/manifest", "/runs/0/columns/0", "/nowhere")]
    for answer in [failed, *answers, client.get("/", headers={"Host": "evil.example"}), client.post("/")]:
        for name, value in {
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }.items():
            assert answer.headers[name] == value
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} <= {*policy}
        assert "unsafe" not in str(policy)
        assert "access-control-allow-origin" not in answer.headers
