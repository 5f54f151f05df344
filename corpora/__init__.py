"""A corpus on disk -> aligned files. No torch here."""
