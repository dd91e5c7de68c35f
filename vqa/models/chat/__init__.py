"""Chat models of transformers."""
