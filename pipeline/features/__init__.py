"""Samples -> what the networks take."""
