"""Data sets of captions and of described regions."""
