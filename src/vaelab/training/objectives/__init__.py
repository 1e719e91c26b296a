"""Objectives, one file each; every file has a class ``Objective(spec, *, …)``, a module.

``forward(vae, x, step)`` returns ``"loss"``, ``"reconstruction"``, ``"kl"`` and any terms of its own, each a scalar in
nats per image, averaged over the batch; the loss is minimised. ``x`` is ``[B, C, H, W]`` in [0, 1]; ``step`` counts
from 0 and is a tensor on the device, so schedules are functions of it and objects keep no counters. An objective with
a trainable part of its own may offer ``parameter_groups()``, torch's parameter groups with their own learning rates.
``KL_WEIGHT`` says, where the loss is the reconstruction and so many times the KL, how many: a number, or the key that
has it. With 1 the loss is a bound of −ln p(x).
"""
