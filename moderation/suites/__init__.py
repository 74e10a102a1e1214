"""Measure a bundle on test suites by other authors."""
