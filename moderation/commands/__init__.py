"""One verb of the command line in each module."""
