"""Classify whole files: read rows, score them, write them, resume."""
