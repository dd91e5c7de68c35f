"""Is the gradient of a score its derivative? Whatever is not is found, named and refused."""
