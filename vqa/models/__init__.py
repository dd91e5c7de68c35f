"""VQA models, a file or folder an architecture."""
