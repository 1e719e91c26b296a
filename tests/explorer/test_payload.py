"""The manifest and the arrays of a payload."""

import json
from pathlib import Path

import numpy as np
import pytest
from exploring import make_annotated, make_codes, make_small_payload
from small import FITTING_PAIRS, make_images
from typed import train_small
from wording import Wording

import vaelab
from vaelab.data.datasets import digits
from vaelab.explorer.inference import InferenceWorker
from vaelab.system import registry
from vaelab.system.errors import InputError


def test_a_model_with_one_latent_is_refused(wording: Wording):
    with pytest.raises(InputError) as error:
        make_small_payload(make_images(), network__latent_dim=1)
    assert error.value.subject == "small"
    wording(error.value)


def test_constant_codes_have_a_payload_and_infinite_ones_do_not():
    payload, _ = make_small_payload(make_annotated(), make_codes(np.zeros((60, 4)), 0.0), network__latent_dim=4)
    facts = json.loads(payload.json)
    assert (facts["active"], facts["attributes"]) == (0, [])
    assert [found["name"] for found in facts["maps"]] == ["PCA", "z1 and z2, most informative"]
    assert (payload.quantise_column(0) == -32768).all()
    with pytest.raises(InputError):
        make_small_payload(make_images(), make_codes(np.full((50, 4), np.nan)), network__latent_dim=4)


@pytest.mark.parametrize("likelihood", registry.names("likelihoods"))
@pytest.mark.parametrize("left_out", [(), ("labels",), ("attributes", "labels"), ("labels", "factors", "attributes")])
def test_the_manifest_is_json_and_its_numbers_are_the_models(likelihood: str, left_out: tuple[str, ...]):
    images = make_annotated(**dict.fromkeys(left_out))
    payload, vae = make_small_payload(images, network__latent_dim=3, likelihood__name=likelihood)
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
    for i, group in enumerate(facts["groups"]):
        members = payload.groups[i].members
        assert len(members) == 60
        assert sorted(np.unique(members)) == list(range(len(group["values"])))


def test_nearest_points_equal_an_exhaustive_search():
    random = np.random.default_rng(0)
    means = random.standard_normal((500, 3)).astype(np.float32)
    means[7] = means[400]
    payload, _ = make_small_payload(make_images(500), make_codes(means), network__latent_dim=3)
    for code in (means[400], random.standard_normal(3).astype(np.float32)):
        distances = np.linalg.norm(means.astype(np.float64) - code, axis=1)
        indices, found = payload.find_nearest(code)
        assert indices.tolist() == np.argsort(distances, kind="stable")[:5].tolist()
        assert found == pytest.approx(distances[indices])
    few, _ = make_small_payload(make_images(3), make_codes(means[:3]), network__latent_dim=3)
    assert few.find_nearest(means[1])[0].tolist()[0] == 1
    assert len(few.find_nearest(means[1])[0]) == 3


def test_points_are_a_fixed_subset_as_the_model_sees_it(tmp_path: Path):
    trained = train_small(tmp_path / "digits", {"network.latent_dim": 3}).path
    ((payload, _),) = vaelab.explore([trained], points=40).runs
    ((again, _),) = vaelab.explore([trained], points=40).runs
    assert payload.json == again.json
    assert np.array_equal(payload.means, again.means)
    train = digits.load(None, "train").pixels
    for image in payload.pixels[np.arange(3)]:
        assert (train == image).all((1, 2, 3)).any()
    assert payload.manifest["beta"] == 1.0
    model = vaelab.load(trained)
    assert payload.means == pytest.approx(model.encode(payload.pixels[np.arange(40)]).mean.numpy(), abs=1e-5)


MEMBERS: dict[str, dict[str, str]] = {
    **{f"{q}, {p}": {"posterior__name": q, "prior__name": p} for q, p in FITTING_PAIRS},
    "spatial": {"network__name": "residual", "network__latents": "spatial"},
    **{f"sampler {name}": {"sampler": name} for name in registry.names("samplers")},
}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_posterior_prior_sampler_and_spatial_latents_have_a_payload(member: str):
    given = MEMBERS[member]
    if given.get("sampler") and "quantised_posterior" in registry.load("samplers", given["sampler"]).Sampler.needs:
        given = {**given, "posterior__name": "fsq", "prior__name": "uniform"}
    images = make_annotated()
    payload, vae = make_small_payload(images, **given, network__latent_dim=20)  # type: ignore[arg-type]
    facts = json.loads(payload.json, parse_constant=lambda word: pytest.fail(word))
    is_quantised = "quantised_posterior" in vae.provides
    assert [len(facts["kl"]), len(facts["order"])] == [0 if is_quantised else 20, 20]
    kinds = [{facts["columns"][axis]["kind"] for axis in each["axes"]} for each in facts["maps"]]
    assert kinds[0] <= {"lda", "pca"}
    assert ({"latent"} in kinds) == (not is_quantised and member != "spatial")
    assert facts["samples"] == (0 if facts["is_normal"] else len(payload.samples))
    worker = InferenceWorker(vae)
    codes = payload.samples[:3] if facts["samples"] else payload.means[:3]
    assert np.isfinite(codes).all()
    assert worker.decode(codes).shape == (3, 9, 8, 1)
    encoded = worker.encode(images.pixels[0])
    assert encoded.mean == pytest.approx(payload.means[0], abs=1e-5)
    assert np.isfinite([encoded.reconstruction, encoded.kl, *encoded.log_var]).all()
