"""Tiny models and files of every published layout, one module a family."""
