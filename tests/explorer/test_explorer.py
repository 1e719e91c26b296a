"""vaelab explore without a browser: what the page is told of a run, and the server behind it."""

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import make_images, make_recipe
from starlette.testclient import TestClient
from typed import Typed, train_small

import vaelab
from vaelab.build import build
from vaelab.data.datasets import digits
from vaelab.data.images import Images, as_tensor, to_float, to_uint8
from vaelab.explorer import axes, server
from vaelab.explorer.inference import InferenceWorker
from vaelab.explorer.payload import Payload, ServedRun, make_payload
from vaelab.models.codes import Codes, encode_images, find_direction
from vaelab.models.samplers import make_sampler
from vaelab.models.vae import VAE
from vaelab.system import registry

BARE = {"Content-Type": "application/octet-stream"}
PLACE = "http://127.0.0.1:8765"
Random = np.random.Generator


def make_known(count: int = 60, **without: None) -> Images:
    """Images of which everything is known; ``labels=None`` and so on leaves some of it out."""
    random = np.random.default_rng(1)
    known: dict[str, Any] = {
        "labels": random.integers(0, 4, count),
        "label_names": ("nought", "one", "two", "three", "nobody"),
        "factors": np.stack([random.integers(0, size, count) for size in (1, 3, 40)], axis=1),
        "factor_names": ("alone", "few", "many"),
        "factor_sizes": (1, 3, 40),
        "attributes": np.stack([random.random(count) < share for share in (0.3, 2, 0.6)], axis=1),
        "attribute_names": ("Pale_Skin", "Human", "Smiling"),
    }
    for kind in without:
        known = {key: value for key, value in known.items() if key.rstrip("s").split("_")[0] != kind.rstrip("s")}
    return Images(make_images(count).pixels, **known)


def make_one(images: Images, codes: Codes | None = None, **overrides: Any) -> tuple[Payload, VAE]:
    """A small model, and the scene of it on images; with the codes given, or those of the model."""
    recipe = make_recipe(**overrides)
    vae, _ = build(recipe, images.image_shape, len(images))
    vae.eval()
    codes = codes or encode_images(vae, images)
    return make_payload(
        "small", recipe, vae, codes, images, 100, "digest", make_sampler("prior", vae, lambda: images)
    ), vae


def make_codes(means: np.ndarray, log_var: float = -4.0) -> Codes:
    return Codes(means.astype(np.float32), np.full(means.shape, log_var, np.float32))


# -- columns and maps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 3, 7])
def test_columns_are_the_codes_along_their_vectors_to_half_a_step(width: int):
    payload, _ = make_one(make_known(), network__latent_dim=width)
    facts = json.loads(payload.json)
    kinds = [column["kind"] for column in facts["columns"]]
    assert kinds[:width] == ["latent"] * width
    assert set(kinds) == ({"latent"} if width == 2 else {"latent", "lda", "pca", "attribute"})
    for i, column in enumerate(facts["columns"]):
        vector = np.eye(width)[column["latent"]] if "latent" in column else np.array(column["vector"])
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        step = (column["high"] - column["low"]) / 65535
        found = column["low"] + (payload.column(i).astype(np.float64) + 32768) * step
        assert np.abs(found - payload.means.astype(np.float64) @ vector).max() <= 0.5001 * step
        assert (payload.column(i).min(), payload.column(i).max()) == (-32768, 32767)


def test_of_two_latents_the_map_is_the_latents():
    facts = make_one(make_known(), network__latent_dim=2)[0].manifest
    assert facts["maps"] == [{"name": "z1 and z2", "axes": [0, 1], "note": ""}]
    assert len(facts["columns"]) == 2


def test_of_one_latent_there_is_no_map():
    with pytest.raises(ValueError, match="one latent, and a map needs two"):
        make_one(make_images(), network__latent_dim=1)


def test_maps_come_in_order_span_a_plane_and_say_what_they_show():
    facts = make_one(make_known(), network__latent_dim=5)[0].manifest
    names = [found["name"] for found in facts["maps"]]
    first, second = (f"z{latent + 1}" for latent in facts["order"][:2])
    assert names[:3] == ["LDA on labels", "PCA", f"{first} and {second}, most informative"]
    assert names[3].startswith("attributes ")
    for found in facts["maps"]:
        vectors = [
            np.eye(5)[column["latent"]] if "latent" in column else np.array(column["vector"])
            for column in (facts["columns"][i] for i in found["axes"])
        ]
        assert abs(axes.cosine(*vectors)) < 0.95
        assert re.search(r"Shows \d+ % of the variance of the codes; for \d+ % of the images", found["note"])


def test_two_classes_have_one_direction_and_it_is_fishers():
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    shape = random.standard_normal((4, 4))
    means = random.standard_normal((400, 4)) @ shape + labels[:, None] * [1.0, -0.5, 0.0, 2.0]
    variance = np.array([0.1, 0.2, 0.3, 0.9])
    (found,) = axes.discriminants(means, labels, variance)
    groups = [means[labels == label] for label in (0, 1)]
    within = np.mean([np.cov(group.T, bias=True) for group in groups], axis=0) + np.diag(variance)
    expected = np.linalg.solve(within, groups[1].mean(0) - groups[0].mean(0))
    assert abs(axes.cosine(found, expected)) == pytest.approx(1, abs=1e-6)
    images = Images(make_images(400).pixels, labels=labels)
    facts = make_one(images, make_codes(means), network__latent_dim=4)[0].manifest
    assert facts["maps"][0]["name"] == "LDA on labels, and PCA"
    assert [facts["columns"][i]["name"] for i in facts["maps"][0]["axes"]] in (["LDA 1", "PCA 1"], ["LDA 1", "PCA 2"])
    assert not any(found["name"].startswith("attributes") for found in facts["maps"])  # each the other's opposite


def test_without_posterior_variance_lda_is_that_of_scikit_learn():
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 500)
    means = random.standard_normal((500, 6)) @ random.standard_normal((6, 6)) + random.standard_normal((5, 6))[labels]
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(means, labels).scalings_.T
    for ours, vector in zip(axes.discriminants(means, labels, np.zeros(6)), theirs, strict=False):
        assert abs(axes.cosine(ours, vector)) == pytest.approx(1, abs=1e-4)


def test_lda_finds_the_plane_of_the_classes_and_no_collapsed_latent():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    means = 0.3 * random.standard_normal((900, 6))
    means[:, :2] += 4 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    means[:, 5] = 1e-5 * (labels == 2) + 1e-7 * random.standard_normal(900)  # by its means alone it knows the class
    log_var = np.full(means.shape, -4.0)
    log_var[:, 5] = 0
    images = Images(make_images(900).pixels, labels=labels)
    codes = Codes(means.astype(np.float32), log_var.astype(np.float32))
    facts = make_one(images, codes, network__latent_dim=6)[0].manifest
    found = [np.array(column["vector"]) for column in facts["columns"] if column["kind"] == "lda"]
    assert len(found) == 2
    for vector in found:
        assert np.linalg.norm(vector[:2]) > 0.99
        assert abs(vector[5]) < 1e-3
    assert "for 100 % of the images" in facts["maps"][0]["note"]


def test_the_share_of_like_neighbours_is_of_points_that_lda_was_not_fitted_to():
    random = np.random.default_rng(0)
    images = Images(make_images(120).pixels, labels=np.arange(120) % 2)
    codes = make_codes(random.standard_normal((120, 50)))  # labels by chance, which 50 numbers can yet tell apart
    note = make_one(images, codes, network__latent_dim=50)[0].manifest["maps"][0]["note"]
    assert int(re.search(r"for (\d+) %", note)[1]) < 70  # type: ignore[index]
    assert axes.share_alike(np.array([[0.0, 0], [1, 0], [5, 0], [5, 0]]), np.array([0, 1, 1, 1])) == 0.5


def test_pca_shows_what_it_says():
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.standard_normal((5, 5)))
    means = random.standard_normal((3000, 5)) * [3, 2, 1, 0.5, 0.1] @ turned.T
    facts = make_one(make_images(3000), make_codes(means), network__latent_dim=5)[0].manifest
    found = [np.array(column["vector"]) for column in facts["columns"] if column["kind"] == "pca"]
    assert min(abs(axes.cosine(vector, turned[:, i])) for i, vector in enumerate(found)) > 0.99
    assert facts["maps"][0]["name"] == "PCA"
    assert facts["maps"][0]["note"] == f"Shows {100 * 13 / 14.26:.0f} % of the variance of the codes."


def test_codes_that_do_not_vary_still_have_a_scene():
    payload, _ = make_one(make_known(), make_codes(np.zeros((60, 4)), 0.0), network__latent_dim=4)
    facts = json.loads(payload.json)
    assert (facts["active"], facts["attributes"]) == (0, [])
    assert [found["name"] for found in facts["maps"]] == ["PCA", "z1 and z2, most informative"]
    assert (payload.column(0) == -32768).all()
    with pytest.raises(ValueError, match="not finite"):
        make_one(make_images(), make_codes(np.full((50, 4), np.nan)), network__latent_dim=4)


# -- what else is known -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
@pytest.mark.parametrize("left_out", [(), ("labels",), ("attributes", "labels"), ("labels", "factors", "attributes")])
def test_the_manifest_is_json_and_its_numbers_are_the_models(likelihood: str, left_out: tuple[str, ...]):
    images = make_known(**dict.fromkeys(left_out))
    payload, vae = make_one(images, network__latent_dim=3, likelihood__name=likelihood)
    facts = json.loads(payload.json, parse_constant=lambda word: pytest.fail(word))
    posterior = vae.encode(images)
    pixels, x = vae.decode_batch(posterior.mean), images.floats(0, len(images))
    error = pixels.reconstruction_loss(x).detach()
    rest = -pixels.log_prob(x).detach() - error
    assert facts["constant"] == pytest.approx(float(rest.mean()), rel=1e-3, abs=1e-2)
    assert float(rest.max() - rest.min()) < 1e-3 * max(1, abs(float(rest.mean())))  # a constant it is
    kl = posterior.kl_to_standard_normal()
    assert facts["kl"] == pytest.approx(kl.mean(0).tolist(), rel=1e-4, abs=1e-6)
    assert facts["order"] == np.argsort(-kl.mean(0).numpy()).tolist()
    for name, values in (("reconstruction", error), ("kl", kl.sum(1)), ("loss", error + kl.sum(1))):
        assert facts["quantiles"][name] == pytest.approx(np.quantile(values, np.linspace(0, 1, 101)), rel=1e-3)
    assert np.array_equal(np.float32(facts["mean"]), payload.means.mean(0, dtype=np.float64).astype(np.float32))
    assert (facts["count"], facts["total"], facts["latent_dim"], facts["images_sha256"]) == (60, 100, 3, "digest")
    assert facts["image"] == {"height": 9, "width": 8, "channels": 1}
    assert facts["sizes"] == {"column": 120, "group": 60, "codes": 720, "image": 72}
    for i, group in enumerate(facts["groups"]):
        members = payload.group(i)
        assert len(members) == 60
        assert sorted(np.unique(members)) == list(range(len(group["values"])))


def test_groups_are_labels_factors_of_few_values_and_attributes_that_some_have():
    images = make_known()
    payload, _ = make_one(images, network__latent_dim=3)
    assert images.labels is not None
    assert payload.manifest["groups"] == [
        {"name": "label", "values": ["nought", "one", "two", "three"]},
        {"name": "few", "values": ["0", "1", "2"]},
        {"name": "Pale Skin", "values": ["without", "with"]},
        {"name": "Smiling", "values": ["without", "with"]},
    ]
    assert np.array_equal(payload.group(0), images.labels)
    many = Images(make_images(300).pixels, labels=np.arange(300))
    facts = make_one(many, network__latent_dim=3)[0].manifest
    assert (facts["groups"], facts["attributes"]) == ([], [])


def test_attributes_are_differences_of_means_that_tell_most_first():
    random = np.random.default_rng(0)
    has = random.random((500, 3)) < 0.3
    means = random.standard_normal((500, 4))
    means[:, 2] += 3 * has[:, 1]
    means[:, 1] += 8 * has[:, 2]
    images = Images(make_images(500).pixels, attributes=has, attribute_names=("by_chance", "often", "always"))
    facts = make_one(images, make_codes(means), network__latent_dim=4)[0].manifest
    found = {entry["name"]: entry for entry in facts["attributes"]}
    assert list(found) == ["always", "often", "by chance"]
    codes = means.astype(np.float32)
    for j, name in enumerate(("by chance", "often", "always")):
        expected = find_direction(codes, has[:, j])
        assert found[name]["direction"] == pytest.approx(expected, rel=1e-6)
        assert found[name]["without"] == pytest.approx(codes[~has[:, j]].mean(0, dtype=np.float64), rel=1e-5)
        beyond = codes @ expected > (codes[has[:, j]] @ expected).mean() / 2 + (codes[~has[:, j]] @ expected).mean() / 2
        score = (beyond[has[:, j]].mean() + (~beyond[~has[:, j]]).mean()) / 2
        assert found[name]["score"] == pytest.approx(score, abs=1e-6)
    assert found["always"]["score"] == 1
    assert found["often"]["score"] > 0.9 > 0.65 > found["by chance"]["score"]
    columns = [column["name"] for column in facts["columns"] if column["kind"] == "attribute"]
    assert columns == list(found)
    assert facts["maps"][-1]["name"] == "attributes always × often"


def test_the_nearest_are_those_of_a_search_through_all():
    random = np.random.default_rng(0)
    means = random.standard_normal((500, 3)).astype(np.float32)
    means[7] = means[400]
    payload, _ = make_one(make_images(500), make_codes(means), network__latent_dim=3)
    for code in (means[400], random.standard_normal(3).astype(np.float32)):
        distances = np.linalg.norm(means.astype(np.float64) - code, axis=1)
        indices, found = payload.nearest(code)
        assert indices.tolist() == np.argsort(distances, kind="stable")[:5].tolist()
        assert found == pytest.approx(distances[indices])
    few, _ = make_one(make_images(3), make_codes(means[:3]), network__latent_dim=3)
    assert few.nearest(means[1])[0].tolist()[0] == 1
    assert len(few.nearest(means[1])[0]) == 3


# -- the server -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served() -> ServedRun:
    payload, vae = make_one(make_known(), network__latent_dim=3)
    return ServedRun(payload, InferenceWorker(vae))


@pytest.fixture
def client(served: ServedRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TestClient:
    """The server of two runs, with a page of its own."""
    for name, text in (("index.html", "<p>page</p>"), ("main.js", "1"), ("part/style.css", "p {}"), ("a.py", "no")):
        (tmp_path / "static" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "static" / name).write_text(text)
    (tmp_path / "secret.js").write_text("no")
    monkeypatch.setattr(server, "STATIC", tmp_path / "static")
    app = server.make_app([served, served], "127.0.0.1")
    return TestClient(app, base_url=PLACE, raise_server_exceptions=False)


def test_arrays_of_the_scene_are_served_as_they_are(client: TestClient, served: ServedRun):
    payload = served.payload
    assert client.get("/runs").json() == ["small", "small"]
    assert client.get("/runs/1/manifest").json() == payload.manifest
    for i in range(len(payload.manifest["columns"])):
        assert client.get(f"/runs/0/columns/{i}").content == payload.column(i).astype("<i2").tobytes()
    for i in range(len(payload.manifest["groups"])):
        assert client.get(f"/runs/0/groups/{i}").content == payload.group(i).tobytes()
    some = np.array([59, 0, 7, 7], "<i4")
    codes = client.post("/runs/0/codes", content=some.tobytes(), headers=BARE)
    assert codes.headers["content-type"] == "application/octet-stream"
    assert codes.content == payload.means[some].tobytes()
    images = client.post("/runs/0/images", content=some.tobytes(), headers=BARE)
    assert images.content == make_known().pixels[some].tobytes()


def test_decoding_reading_and_searching_are_the_models(client: TestClient, served: ServedRun, make_model: Any):
    _, vae = make_one(make_known(), network__latent_dim=3)
    codes = np.random.default_rng(0).standard_normal((64, 3)).astype("<f4")
    answer = client.post("/runs/0/decode", content=codes.tobytes(), headers=BARE)
    decoded = np.frombuffer(answer.content, np.uint8).reshape(64, 9, 8, 1)
    assert np.abs(decoded.astype(int) - to_uint8(vae.decode(as_tensor(codes)))).max() <= 1
    pixels = make_known().pixels[3]
    numbers = np.frombuffer(client.post("/runs/0/encode", content=pixels.tobytes(), headers=BARE).content, "<f4")
    posterior = vae.encode(pixels)
    error = vae.decode_batch(posterior.mean).reconstruction_loss(to_float(as_tensor(pixels[None])))
    kl = posterior.kl_to_standard_normal().sum(1)
    expected = torch.cat([posterior.mean[0], posterior.log_var[0], error, kl]).detach()
    assert numbers == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-5)
    body = client.post("/runs/0/nearest", content=codes[0].tobytes(), headers=BARE).content
    indices, distances = served.payload.nearest(codes[0])
    assert np.array_equal(np.frombuffer(body[:20], "<i4"), indices)
    assert np.array_equal(np.frombuffer(body[20:], "<f4"), distances.astype(np.float32))


def test_many_codes_are_decoded_a_few_at_a_time(served: ServedRun, monkeypatch: pytest.MonkeyPatch):
    codes = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    whole = served.worker.decode(codes)
    monkeypatch.setattr("vaelab.explorer.inference.TURN", 3 * 72)
    assert np.abs(served.worker.decode(codes).astype(int) - whole).max() <= 1


def test_the_page_comes_with_its_types_and_nothing_else_does(client: TestClient):
    for path, kind, text in (
        ("/", "text/html; charset=utf-8", "<p>page</p>"),
        ("/index.html", "text/html; charset=utf-8", "<p>page</p>"),
        ("/main.js", "text/javascript; charset=utf-8", "1"),
        ("/part/style.css", "text/css; charset=utf-8", "p {}"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["content-type"], answer.text) == (200, kind, text)
    for path in (
        "/a.py",
        "/part",
        "/part/",
        "/../secret.js",
        "/..%2fsecret.js",
        "/%2e%2e/secret.js",
        "/part/..%2f..%2fsecret.js",
        "/..\\secret.js",
        "//etc/passwd",
        "/%00",
    ):
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(
    ("path", "body", "code", "says"),
    [
        ("decode", b"", 400, "a code has 3 float32 numbers"),
        ("decode", bytes(13), 400, "13 bytes"),
        ("decode", np.array([0, np.nan, 0], "<f4").tobytes(), 400, "must be finite"),
        ("decode", np.array([0, -np.inf, 0], "<f4").tobytes(), 400, "must be finite"),
        ("decode", bytes(64 * 12 + 1), 413, "at most 768 bytes"),
        ("nearest", bytes(24), 413, "at most 12 bytes"),
        ("nearest", bytes(8), 400, "8 bytes"),
        ("codes", b"", 400, "int32"),
        ("codes", bytes(5), 400, "int32"),
        ("codes", np.array([60], "<i4").tobytes(), 400, "from 0 to 59"),
        ("images", np.array([0, -1], "<i4").tobytes(), 400, "from 0 to 59"),
        ("images", bytes(4 * 257), 413, "at most 1024 bytes"),
        ("encode", bytes(71), 400, "an image has 72"),
        ("encode", bytes(73), 413, "at most 72 bytes"),
    ],
)
def test_bodies_that_do_not_fit_are_refused_in_one_line(
    client: TestClient, path: str, body: bytes, code: int, says: str
):
    def in_parts() -> Iterator[bytes]:
        yield from (body[i : i + 100] for i in range(0, len(body), 100))

    for content in (body, in_parts()):  # with its length said beforehand, and without
        answer = client.post(f"/runs/0/{path}", content=content, headers=BARE)
        assert answer.status_code == code
        assert says in answer.text
        assert "\n" not in answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_requests_that_no_page_makes_are_refused(client: TestClient):
    code = bytes(12)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"):
        assert client.post("/runs/0/decode", content=code, headers={"Content-Type": kind}).status_code == 415
    assert client.post("/runs/0/decode", content=code).status_code == 415
    assert client.get("/runs/0/decode").status_code == 404
    assert client.options("/runs/0/decode").status_code == 405
    for length in ("-1", "9" * 5000, "many"):
        answer = client.post("/runs/0/decode", content=code, headers={**BARE, "Content-Length": length})
        assert answer.status_code == 400
    for path in ("runs/2/manifest", "runs/-1/manifest", "runs/0/columns/99", "runs/0/columns/-1", "runs/0/groups/x"):
        assert client.get(f"/{path}").status_code == 404
    assert client.get(f"/runs/0/columns/{'9' * 5000}").status_code == 404


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


@pytest.mark.parametrize("host", OWN)
def test_it_answers_under_its_own_name(client: TestClient, host: str):
    assert client.get("/runs", headers={"Host": host}).status_code == 200
    same = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin", **BARE}
    assert client.post("/runs/0/decode", content=bytes(12), headers=same).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_it_answers_under_no_other_name(client: TestClient, host: str):
    for path in ("/", "/runs/0/manifest"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.text) == (403, "this server answers only under its own name")


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
def test_another_page_is_refused(client: TestClient, said: dict[str, str]):
    for path in ("/", "/runs", "/main.js"):
        assert client.get(path, headers=said).status_code == 403
    assert client.post("/runs/0/decode", content=bytes(12), headers={**BARE, **said}).status_code == 403


def test_a_link_to_a_view_may_lead_here(client: TestClient):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/runs/0/manifest", headers=link).status_code == 403


def test_where_others_may_come_any_address_is_right_and_no_name_of_others(served: ServedRun):
    for host in ("0.0.0.0", "::", "box.local"):
        others = TestClient(server.make_app([served], host), base_url=PLACE)
        for name in ("192.168.1.5:8765", "[fe80::1]:8765", "localhost:8765", socket.gethostname()):
            assert others.get("/runs", headers={"Host": name}).status_code == 200
        assert others.get("/runs", headers={"Host": "evil.example"}).status_code == 403
    assert others.get("/runs", headers={"Host": "BOX.local:80"}).status_code == 200


def test_every_answer_has_the_security_headers(
    client: TestClient, served: ServedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(served.worker, "_decode", fail)
    failed = client.post("/runs/0/decode", content=bytes(12), headers=BARE)
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


# -- listening and the command ----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    with server.listen("127.0.0.1", 0) as first:
        assert first.proto == socket.IPPROTO_TCP, (
            "else asyncio leaves small answers to wait 40 ms for the client's word"
        )
        port = first.getsockname()[1]
        assert server.address_of(first) == f"http://127.0.0.1:{port}/"
        assert server.is_private(first)
        with server.listen("127.0.0.1", port) as second:
            assert second.getsockname()[1] not in (0, port)
    with server.listen("0.0.0.0", 0) as everywhere:
        assert server.address_of(everywhere) == f"http://127.0.0.1:{everywhere.getsockname()[1]}/"
        assert not server.is_private(everywhere)
    for host in ("nowhere.invalid", "192.0.2.1"):
        with pytest.raises(ValueError, match=f"--host {host}: "):
            server.listen(host, 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("runs") / "digits", {"network.latent_dim": 3}).path


def test_a_run_is_served_until_ctrl_c(trained: Path):
    command = [sys.executable, "-m", "vaelab", "explore", str(trained), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "digits: 1,438 training images, 3 latents\n"
            told = re.fullmatch(
                r"(http://127\.0\.0\.1:\d+/)  \(loads \d\.\d MB; Ctrl-C ends it\)\n", process.stdout.readline()
            )
            assert told is not None
            with urllib.request.urlopen(told[1]) as page:
                assert b"<html" in page.read()
            with urllib.request.urlopen(f"{told[1]}runs/0/manifest") as payload:
                assert json.load(payload)["count"] == 1438
            hanging = socket.create_connection(("127.0.0.1", int(told[1].rstrip("/").rpartition(":")[2])))
            head = "POST /runs/0/decode HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            hanging.sendall(f"{head}Content-Length: 12\r\n\r\nhalf".encode())
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            hanging.close()
            assert process.stdout.read() == "ended\n"
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a server end as soon as it could begin, and note where a browser would have gone."""
    opened: list[str] = []
    monkeypatch.setattr(server, "serve", lambda _app, _listener, ready: ready())
    monkeypatch.setattr("vaelab.cli.explore._open_browser", opened.append)
    return opened


def test_the_command_says_where_it_is_and_who_can_see_it(cli: Typed, trained: Path, ready: list[str]):
    code, out, err = cli("explore", trained, trained, "--points", 40, "--port", 0)
    assert (code, err) == (0, "")
    assert out.startswith("digits: 40 of 1,438 training images, 3 latents\n" * 2 + "http://127.0.0.1:")
    assert ready[0] in out
    with server.listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        assert f"port {port} cannot be had" in cli("explore", trained, "--port", port, "--no-browser")[2]
    code, _, err = cli("explore", trained, "--host", "0.0.0.0", "--port", 0, "--no-browser")
    assert "warning: anyone who can reach this machine" in err
    assert len(ready) == 1


def test_wrong_usage_gets_one_line(cli: Typed, trained: Path, ready: list[str], tmp_path: Path):
    for words, code, says in (
        ([trained] * 3, 2, "3 runs: the page shows one, or two"),
        (["nowhere"], 1, "no run here"),
        ([trained, "--host", "nowhere.invalid"], 1, "--host nowhere.invalid"),
        ([trained, "--data", tmp_path / "none"], 1, "name their place with --data"),
    ):
        found, out, err = cli("explore", *words, "--no-browser", "--port", 0)
        assert (found, out, err.count("\n")) == (code, "", 1)
        assert says in err
    assert ready == []


def test_points_are_the_same_every_time_and_as_the_model_sees_them(trained: Path):
    ((payload, _),) = vaelab.explore([trained], points=40)
    ((again, _),) = vaelab.explore([trained], points=40)
    assert payload.json == again.json
    assert np.array_equal(payload.means, again.means)
    train = digits.load(None, "train").pixels
    for image in payload.images(np.arange(3)):
        assert (train == image).all((1, 2, 3)).any()
    assert payload.manifest["beta"] == 1.0
    model = vaelab.load(trained)
    assert payload.means == pytest.approx(model.encode(payload.images(np.arange(40))).mean.numpy(), abs=1e-5)
