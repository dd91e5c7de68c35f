"""Hierarchical co-attention (Lu et al., 2016)."""
