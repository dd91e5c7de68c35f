"""Tiny models that answer questions, in their published layouts, one module a family."""
