"""Views of annotated images to train on."""
