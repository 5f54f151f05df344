"""Batches, training loop, checkpoints, testing."""
