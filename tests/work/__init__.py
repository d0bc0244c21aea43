"""Labeling itself: the labeler, the gate, the runtimes, and the distributed engine."""
