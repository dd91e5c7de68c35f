"""Tiny captioners in their published layouts, one module a family."""
