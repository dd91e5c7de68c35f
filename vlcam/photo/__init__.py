"""From a file to pixels: Figure 2's "image"."""
