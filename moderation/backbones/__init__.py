"""Pretrained encoders: which there are, and where their files come from."""
