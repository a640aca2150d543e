"""Metric modules for `evaluate`, shipped here because its own live on a hub."""
