"""Tensors in, tensors out: the numerical core."""
