"""Questions, answers and human attention."""
