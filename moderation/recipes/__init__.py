"""One verb, one file: each reads like the README. Start with train.py."""
