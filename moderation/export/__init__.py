"""Checkpoint -> bundle: the same classifier in several forms, each checked to decide like the first."""
