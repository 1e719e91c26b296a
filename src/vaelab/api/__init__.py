"""The commands as functions that print nothing: one file each. ``vaelab/__init__.py`` lists the public ones."""
