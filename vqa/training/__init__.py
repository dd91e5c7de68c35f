"""Training VQA models."""
