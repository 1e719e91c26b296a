"""Groups and attributes of a payload."""

import numpy as np
import pytest
from exploring import make_annotated, make_codes, make_small_payload
from small import make_images

from vaelab.data.images import Images
from vaelab.models.codes import find_direction


def test_groups_are_labels_small_factors_and_varying_attributes():
    images = make_annotated()
    payload, _ = make_small_payload(images, network__latent_dim=3)
    assert images.labels is not None
    assert payload.manifest["groups"] == [
        {"name": "label", "values": ["nought", "one", "two", "three"]},
        {"name": "few", "values": ["0", "1", "2"]},
        {"name": "Pale Skin", "values": ["without", "with"]},
        {"name": "Smiling", "values": ["without", "with"]},
    ]
    assert np.array_equal(payload.groups[0].members, images.labels)
    many = Images(make_images(300).pixels, labels=np.arange(300))
    facts = make_small_payload(many, network__latent_dim=3)[0].manifest
    assert (facts["groups"], facts["attributes"]) == ([], [])


def test_attributes_are_differences_of_means_and_the_most_separable_come_first():
    random = np.random.default_rng(0)
    has = random.random((500, 3)) < 0.3
    means = random.standard_normal((500, 4))
    means[:, 2] += 3 * has[:, 1]
    means[:, 1] += 8 * has[:, 2]
    images = Images(make_images(500).pixels, attributes=has, attribute_names=("by_chance", "often", "always"))
    facts = make_small_payload(images, make_codes(means), network__latent_dim=4)[0].manifest
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
