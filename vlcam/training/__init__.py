"""What the trainings of all our models share."""
