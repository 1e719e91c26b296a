"""Campaigns that disturb vaelab on purpose: ``python -m tests.torture --help``, ``make torture``."""
