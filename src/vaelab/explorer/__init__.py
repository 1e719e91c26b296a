"""The page on which a person puts a hand into a latent space: what it is told of a run, and the server behind it.

``static`` holds the page itself, ES modules that are served as they are. It asks a backend for a scene (scene.py), for
images, and for what the model makes of them (coder.py); here that backend is a server on this machine (server.py).
"""
