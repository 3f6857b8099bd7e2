"""Objects to pictures."""
