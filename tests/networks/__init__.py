"""Layers, blocks, networks, losses, schedules, and their export."""
