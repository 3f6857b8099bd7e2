"""Reading images and annotations."""
