"""Logits -> probabilities -> predictions -> numbers -> pictures."""
