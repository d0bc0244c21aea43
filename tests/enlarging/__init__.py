"""Interpolation, its comparison and choice, and the views of an image."""
