"""What a map is worth: pure functions on maps."""
