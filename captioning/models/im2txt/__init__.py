"""Google's Show and Tell, from TensorFlow's checkpoints."""
