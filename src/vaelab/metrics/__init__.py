"""Metrics, one file each: a pure function on arrays and, where one model and one set of images suffice,
``measure(model, images, generator, *, …) -> dict`` of numbers with a ``"protocol"`` that says how they were made.

Numbers are nats per image unless their name says otherwise. Images arrive as they are to be measured: binarised, say,
by a seed that the protocol of the evaluation states.
"""
