"""Convolutions and normalizations, with their gradients, held to those of PyTorch where it is installed."""
