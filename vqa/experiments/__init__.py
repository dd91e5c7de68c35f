"""What `vlcam evaluate` measures on VQA models (section 8.2)."""
