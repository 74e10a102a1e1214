"""A second bundle that scores texts after their answers were sent."""
