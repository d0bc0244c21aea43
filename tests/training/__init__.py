"""Trainer, checkpoints, savers, evaluation, and the workers of a cluster."""
