"""Linear probe: accuracy of linear classifiers of attributes and classes on the codes."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from pydantic import PositiveFloat

from vaelab.data.images import Images
from vaelab.data.tensors import subsample
from vaelab.evaluation.evaluation import Evaluation, NotMeasurable
from vaelab.evaluation.metrics import AtLeastTwo, Metric, Quantity, Result
from vaelab.models.codes import fit_probe
from vaelab.system.progress import progress


def probe_attribute(
    train_codes: Float[np.ndarray, "n latent"],
    train_has: Bool[np.ndarray, " n"],
    codes: Float[np.ndarray, "m latent"],
    has: Bool[np.ndarray, " m"],
    C: float = 1.0,
) -> dict[str, float]:
    """Return scores on ``codes``, 0 to 1, of a linear probe fitted to ``train_codes``.

    "majority_accuracy" is that of always predicting the majority in training ("has not" for a tie). Both cases must
    occur in ``has``; ValueError if all or none of the training images have the attribute.
    """
    from sklearn import metrics

    log_odds = fit_probe(train_codes, train_has, C).decision(codes)
    return {
        "accuracy": float(metrics.accuracy_score(has, log_odds > 0)),
        "majority_accuracy": float((has == (train_has.mean() > 0.5)).mean()),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(has, log_odds > 0)),
        "roc_auc": float(metrics.roc_auc_score(has, log_odds)),
        "average_precision": float(metrics.average_precision_score(has, log_odds)),
    }


def probe_classes(
    train_codes: Float[np.ndarray, "n latent"],
    train_labels: Int[np.ndarray, " n"],
    codes: Float[np.ndarray, "m latent"],
    labels: Int[np.ndarray, " m"],
    C: float = 1.0,
) -> dict[str, float]:
    """Return the share of ``codes`` whose class a linear probe fitted to ``train_codes`` predicts, of all classes.

    The probe is multinomial logistic regression. "majority_class_accuracy" is the share of the most frequent class of
    the training images. ValueError if they have only one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=C, tol=1e-6, max_iter=1000))
    classifier.fit(train_codes.astype(np.float64), train_labels)
    values, counts = np.unique(train_labels, return_counts=True)
    return {
        "class_accuracy": float((classifier.predict(codes.astype(np.float64)) == labels).mean()),
        "majority_class_accuracy": float((labels == values[np.argmax(counts)]).mean()),
    }


def measure(evaluation: Evaluation, *, C: PositiveFloat = 1.0, max_train_images: AtLeastTwo = 20_000) -> Result:
    """Means over attributes of ``probe_attribute`` on posterior means; each class against the rest is an attribute.

    "class_accuracy" is the share of images whose class one probe of all classes predicts (``probe_classes``). The
    probes are trained on ``max_train_images`` random training images and tested on the images measured. Attributes that
    all or none have in either set are left out.
    """
    train, random = evaluation.train, evaluation.generator("probe")
    rows = subsample(len(train), max_train_images, random)
    train_columns, columns = _attributes(train), _attributes(evaluation.images)
    both = [(name, train_columns[name][rows], columns[name]) for name in train_columns if name in columns]
    used = [(name, train_has, has) for name, train_has, has in both if _varies(train_has) and _varies(has)]
    if not used:
        raise NotMeasurable("needs an attribute or a class that some training and held-out images have and others lack")
    train_codes, codes, scores = evaluation.train_codes(rows).mean, evaluation.codes.mean, {}
    with progress("probing", len(used)) as bar:
        for name, train_has, has in used:
            scores[name] = probe_attribute(train_codes, train_has, codes, has, C)
            bar.advance(1)
    every = list(scores.values())
    labels = (None if train.labels is None else train.labels[rows], evaluation.images.labels)
    classes = {}
    if labels[0] is not None and labels[1] is not None and len(np.unique(labels[0])) > 1:
        classes = probe_classes(train_codes, labels[0], codes, labels[1], C)
    return {
        **classes,
        **{key: float(np.mean([score[key] for score in every])) for key in every[0]},
        "attributes": len(used),
        "attributes_left_out": len(train_columns | columns) - len(used),
        "balanced_accuracy_per_attribute": {name: score["balanced_accuracy"] for name, score in scores.items()},
        "protocol": {
            "codes": "posterior means, standardised over the training images",
            "classifier": f"logistic regression, ½|w|² + {C:g} Σ log-loss, free bias",
            "trained_on": "training images",
            "train_images": len(rows),
            "train_images_available": len(train),
            "test_images": len(codes),
        },
    }


def _attributes(images: Images) -> dict[str, NDArray[np.bool_]]:
    """Return whether each image has each attribute and belongs to each class that occurs, by name."""
    table, names = images.binary_attributes()
    return dict(zip(names, table.T, strict=True))


def _varies(has: NDArray[np.bool_]) -> bool:
    return bool(has.any()) and not bool(has.all())


METRIC = Metric(
    measure,
    question="prediction",
    needs=frozenset({"train_labels", "labels"}),
    quantities=(
        Quantity(
            "class_accuracy",
            "probe accuracy of classes",
            better="higher",
            digits=3,
            baseline="majority_class_accuracy",
            decides=True,
        ),
        Quantity("majority_class_accuracy", "majority baseline of classes", digits=3, drawn="never"),
        Quantity(
            "accuracy",
            "probe accuracy, mean over attributes",
            better="higher",
            digits=3,
            baseline="majority_accuracy",
        ),
        Quantity("majority_accuracy", "majority baseline, mean over attributes", digits=3, drawn="never"),
        Quantity("balanced_accuracy", "probe balanced accuracy, mean over attributes", better="higher", digits=3),
    ),
    order=50,
    synonyms=("linear_probe",),
)
