"""Files of weights and words, as others write them. Nothing in them is ever run."""
