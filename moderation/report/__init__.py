"""The report of a run: its content, its plots, its page."""
