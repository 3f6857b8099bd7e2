"""What a score threshold does, and which one to choose."""
