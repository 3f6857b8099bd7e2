"""Images that fit no memory: their levels, and windows of them."""
