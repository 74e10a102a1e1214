"""The archive that TorchServe runs."""
