"""The training loop and the objectives."""
