"""One file for each foreign naming of weights."""
