"""Find every object in an image, cut each one out, count them and measure them."""
