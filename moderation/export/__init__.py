"""Checkpoint -> bundle: the same classifier in several forms, each one proved to decide like the first."""
