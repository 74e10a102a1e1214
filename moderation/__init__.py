"""Multi-label toxicity detection: train, tune, evaluate."""
