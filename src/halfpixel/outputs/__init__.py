"""One writer for each format of files."""
