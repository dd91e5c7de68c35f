"""CNNs that can be cut in two at a layer: Figure 2's "CNN"."""
