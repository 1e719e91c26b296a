"""Metrics, one file each: a pure function on arrays and, where one model and one set of images suffice,

- ``measure(model, images, generator, *, …) -> dict | None``: finite numbers, lists and tables of them, and a
  ``"protocol"`` that says how they were made, all of it JSON; None where these images have nothing to measure. A number
  that is not defined on them is left out.
- ``measure_codes(codes, images, generator, *, …)``, where codes are all that is needed of the model: the same on
  ``latent.Codes`` of exactly these images, so that they are encoded once for all metrics. ``measure`` is that on
  freshly encoded ones.

A metric that needs the training images, to learn from or because q(z) is theirs, takes the keyword ``train: Images |
None = None``; where it needs their codes, its ``measure_codes`` takes ``encode: Encode | None = None`` beside it, for
as many of them as it chooses. Without them it makes do with the images measured, and its protocol says so.

A file says ``BY_DEFAULT = False`` where the metric takes minutes and is measured only when asked for.

Numbers are nats per image unless their name says otherwise. Images arrive as they are to be measured: binarised, say,
by a seed that the protocol of the evaluation states.
"""
