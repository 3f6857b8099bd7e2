"""One reader for each format of annotated images."""
