"""The commands, as people run them, and what they share."""
