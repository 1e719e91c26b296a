"""Networks, one file each, encoder and decoder together; every file has ``Encoder(spec, *, …)`` and ``Decoder(…)``.

``Encoder`` maps images ``[B, C, H, W]`` to means and log-variances, each ``[B, latent_dim]``; ``Decoder`` maps codes
``[B, latent_dim]`` to unbounded values ``[B, spec.decoder_channels, H, W]``. Any image size from 8×8 works. Keyword
arguments are the recipe's ``[network]`` keys; the two constructors may share them.
"""
