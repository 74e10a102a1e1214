"""Logits -> probabilities -> predictions -> figures -> plots."""
