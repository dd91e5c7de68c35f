"""Real photos, which ``--data`` points at."""
