"""Objects paired with annotations at one IoU, and what kind of error each other one is."""
