"""A trained run and a browser -> a page that listens: demo.py."""
