"""From an image to objects: everything around the network."""
