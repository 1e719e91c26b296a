"""Likelihoods p(x|z), one file each; every file has a class ``Likelihood(facts, *, …)``.

``channels_per_pixel`` says how many decoder channels each image channel needs. Called on the decoder's unbounded
output ``[B, K·C, H, W]`` it owns the link function and returns an object with ``mean``, ``log_prob(x)`` (the true
normalised log density or probability, nats per image), ``error(x)`` (what the objective minimises, ``-log_prob`` up to
a constant, nats per image) and ``sample(generator)``.
"""
