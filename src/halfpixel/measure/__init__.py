"""Objects to numbers, and the files that other programs read."""
