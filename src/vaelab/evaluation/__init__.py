"""Metrics, the doctor, and what makes runs comparable."""
