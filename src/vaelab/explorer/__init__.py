"""The latent space explorer: a browser page (static/), the payload that describes a run to it, and its server."""
