"""Contract tests over every data set."""

import math
from pathlib import Path

import numpy as np
import pytest

from vaelab.system import registry

NAMES = registry.names("datasets")
MOST_BYTES = 1 << 28
"""Of pixels that a test makes: larger sets have small ones in tests of their own."""


def is_ready(name: str) -> bool:
    """Whether a data set needs no files, and little room."""
    about = registry.load("datasets", name).INFO
    return not about.files and sum(about.splits.values()) * math.prod(about.image_shape) < MOST_BYTES


READY = [name for name in NAMES if is_ready(name)]


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_says_what_it_is(name: str):
    module = registry.load("datasets", name)
    about = module.INFO
    assert {"train"} <= set(about.splits) <= {"train", "valid", "test"}
    assert all(count is None or count > 0 for count in about.splits.values())
    assert about.image_shape is not None or not any(about.splits.values())
    assert about.title
    assert about.licence
    assert about.source
    assert all(hasattr(module, verb) for verb in ("find", "get", "check")) or not about.files


@pytest.mark.parametrize("name", NAMES)
def test_a_split_that_nobody_publishes_is_refused_before_anything_is_fetched(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match="no split 'holdout'"):
        registry.load("datasets", name).load(tmp_path, "holdout")


@pytest.mark.parametrize("name", READY)
def test_what_comes_with_vaelab_is_what_it_says(name: str):
    module = registry.load("datasets", name)
    for split, count in module.INFO.splits.items():
        images = module.load(None, split)
        assert (len(images), images.image_shape) == (count, module.INFO.image_shape)
        assert images.labels is None or set(np.unique(images.labels)) <= set(range(len(images.label_names)))
        assert images.fingerprint() == module.load(None, split).fingerprint()
