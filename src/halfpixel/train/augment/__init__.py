"""Crops of annotated images to train on."""
