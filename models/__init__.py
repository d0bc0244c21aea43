"""Layers whose gradients are derived by hand, the networks made of them, losses and schedules."""
