"""Where a layer's cells lie in the input, and the input in the photo."""
