"""The synthetic corpus; only sample_corpus.py imports it."""
