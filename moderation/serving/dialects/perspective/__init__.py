"""The Perspective API, as its clients speak it."""
