"""What a model is worth on suites that others wrote: each read in its authors' form, scored once, told in one table."""
