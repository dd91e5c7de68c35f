"""What is said in a line: errors, names, values."""
