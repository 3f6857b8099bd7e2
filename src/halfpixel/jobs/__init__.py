"""A run over many images, as a library."""
