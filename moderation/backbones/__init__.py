"""Pretrained encoders: which ones exist, and where their files come from."""
