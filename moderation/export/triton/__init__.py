"""The model repository that Triton runs."""
