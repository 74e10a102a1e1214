"""The report of a run: what it says, its plots, its page."""
