"""Model files, and the models that have names."""
