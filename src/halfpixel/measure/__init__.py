"""Objects to numbers."""
