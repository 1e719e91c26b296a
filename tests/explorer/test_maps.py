"""Columns and maps of a payload."""

import json
import re

import numpy as np
import pytest
from exploring import cosine, make_annotated, make_codes, make_small_payload
from small import make_images

from vaelab.data.images import Images
from vaelab.explorer.projections import find_discriminants
from vaelab.models.codes import Codes


@pytest.mark.parametrize("width", [2, 3, 7])
def test_columns_are_projections_of_the_codes_to_half_a_step(width: int):
    payload, _ = make_small_payload(make_annotated(), network__latent_dim=width)
    facts = json.loads(payload.json)
    kinds = [column["kind"] for column in facts["columns"]]
    assert kinds[:width] == ["latent"] * width
    assert set(kinds) == ({"latent"} if width == 2 else {"latent", "lda", "pca", "attribute"})
    for i, column in enumerate(facts["columns"]):
        vector = np.eye(width)[column["latent"]] if "latent" in column else np.array(column["vector"])
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
        step = (column["high"] - column["low"]) / 65535
        found = column["low"] + (payload.quantise_column(i).astype(np.float64) + 32768) * step
        assert np.abs(found - payload.means.astype(np.float64) @ vector).max() <= 0.5001 * step
        assert (payload.quantise_column(i).min(), payload.quantise_column(i).max()) == (-32768, 32767)


def test_the_map_of_two_latents_is_the_latents():
    facts = make_small_payload(make_annotated(), network__latent_dim=2)[0].manifest
    assert facts["maps"] == [{"name": "z1 and z2", "axes": [0, 1], "note": ""}]
    assert len(facts["columns"]) == 2


def test_maps_are_ordered_and_span_planes_and_have_notes():
    facts = make_small_payload(make_annotated(), network__latent_dim=5)[0].manifest
    names = [found["name"] for found in facts["maps"]]
    first, second = (f"z{latent + 1}" for latent in facts["order"][:2])
    assert names[:3] == ["LDA on labels", "PCA", f"{first} and {second}, most informative"]
    assert names[3].startswith("attributes ")
    for found in facts["maps"]:
        vectors = [
            np.eye(5)[column["latent"]] if "latent" in column else np.array(column["vector"])
            for column in (facts["columns"][i] for i in found["axes"])
        ]
        assert abs(cosine(*vectors)) < 0.95
        assert re.search(r"Shows \d+ % of the variance .* \d+ % of the images", found["note"])


def test_the_discriminant_of_two_classes_is_fishers():
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    shape = random.standard_normal((4, 4))
    means = random.standard_normal((400, 4)) @ shape + labels[:, None] * [1.0, -0.5, 0.0, 2.0]
    variance = np.array([0.1, 0.2, 0.3, 0.9])
    (found,) = find_discriminants(means, labels, variance)
    groups = [means[labels == label] for label in (0, 1)]
    within = np.mean([np.cov(group.T, bias=True) for group in groups], axis=0) + np.diag(variance)
    expected = np.linalg.solve(within, groups[1].mean(0) - groups[0].mean(0))
    assert abs(cosine(found, expected)) == pytest.approx(1, abs=1e-6)
    images = Images(make_images(400).pixels, labels=labels)
    facts = make_small_payload(images, make_codes(means), network__latent_dim=4)[0].manifest
    assert facts["maps"][0]["name"] == "LDA on labels, and PCA"
    assert [facts["columns"][i]["name"] for i in facts["maps"][0]["axes"]] in (["LDA 1", "PCA 1"], ["LDA 1", "PCA 2"])
    assert not any(found["name"].startswith("attributes") for found in facts["maps"])  # each the other's opposite


def test_lda_finds_the_plane_of_the_classes_and_ignores_a_collapsed_latent():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    means = 0.3 * random.standard_normal((900, 6))
    means[:, :2] += 4 * np.array([[0, 0], [1, 0], [0, 1]])[labels]
    means[:, 5] = 1e-5 * (labels == 2) + 1e-7 * random.standard_normal(900)  # by its means alone it knows the class
    log_var = np.full(means.shape, -4.0)
    log_var[:, 5] = 0
    images = Images(make_images(900).pixels, labels=labels)
    codes = Codes(means.astype(np.float32), log_var.astype(np.float32))
    facts = make_small_payload(images, codes, network__latent_dim=6)[0].manifest
    found = [np.array(column["vector"]) for column in facts["columns"] if column["kind"] == "lda"]
    assert len(found) == 2
    for vector in found:
        assert np.linalg.norm(vector[:2]) > 0.99
        assert abs(vector[5]) < 1e-3
    assert "for 100 % of the images" in facts["maps"][0]["note"]


def test_neighbour_agreement_is_measured_on_held_out_points():
    random = np.random.default_rng(0)
    images = Images(make_images(120).pixels, labels=np.arange(120) % 2)
    codes = make_codes(
        random.standard_normal((120, 50))
    )  # labels by chance, which 50 numbers can separate nevertheless
    note = make_small_payload(images, codes, network__latent_dim=50)[0].manifest["maps"][0]["note"]
    assert int(re.search(r"for (\d+) %", note)[1]) < 70  # type: ignore[index]


def test_pca_finds_the_largest_variances_and_reports_their_share():
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.standard_normal((5, 5)))
    means = random.standard_normal((3000, 5)) * [3, 2, 1, 0.5, 0.1] @ turned.T
    facts = make_small_payload(make_images(3000), make_codes(means), network__latent_dim=5)[0].manifest
    found = [np.array(column["vector"]) for column in facts["columns"] if column["kind"] == "pca"]
    assert min(abs(cosine(vector, turned[:, i])) for i, vector in enumerate(found)) > 0.99
    assert facts["maps"][0]["name"] == "PCA"
    assert facts["maps"][0]["note"] == f"Shows {100 * 13 / 14.26:.0f} % of the variance of the codes."
