"""From image files and arrays to a network's input."""
