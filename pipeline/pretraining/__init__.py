"""Pretraining of a text encoder; only text_pretrain.py imports it."""
