"""Campaigns that disturb vaelab deliberately: ``python -m tests.torture --help``, ``make torture``."""
