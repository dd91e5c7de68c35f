"""What `vlcam evaluate` measures on captioners (section 8.1)."""
