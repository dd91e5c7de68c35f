"""word_maps."""
