"""Deeper LSTM question + normalised image (Lu et al., 2015)."""
