"""A network as a file that runs without torch."""
