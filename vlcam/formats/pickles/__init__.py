"""Pickles as plain data: a machine that runs nothing, and numbers that stay in their file."""
