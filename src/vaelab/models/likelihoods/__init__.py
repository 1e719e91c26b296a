"""Likelihoods p(x|z), one file each; every file has a class ``Likelihood(spec, *, …)``.

``channels_per_pixel`` says how many decoder channels each image channel needs. Called on the decoder's unbounded
output ``[B, K·C, H, W]`` it owns the link function and returns an object with ``mean``, ``log_prob(x)`` (the true
normalised log density or probability, nats per image), ``error(x)`` (what the objective minimises, ``-log_prob`` up to
a constant, nats per image; it may be below 0) and ``sample(generator)``.

``is_discrete = True`` says that ``log_prob`` is a probability of grey levels, ``wants_binary = True`` that it is one of
black-or-white pixels alone. A likelihood with a part that is set from images and not learned, such as an optimal σ,
keeps it in a buffer and offers ``statistic(decoded, x)``, a number for each image ``[B]``, and ``fit(statistics)``. It
is fitted to every batch while it trains and to all training images at the end, and changes at no other time.
"""
