"""Predictions in .npy files -> scores, fusion, tables, page. No torch here."""
