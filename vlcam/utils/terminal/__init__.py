"""The terminal and its user: progress, Ctrl-C, what C libraries print."""
