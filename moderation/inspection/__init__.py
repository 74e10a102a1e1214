"""Checks tokenizers and graphs from other sources before they run."""
