"""Captioners, a file or folder an architecture."""
