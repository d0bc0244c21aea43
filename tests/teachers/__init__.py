"""Teachers of every kind: found, loaded, fed as they want it, and counted in a subset of their classes."""
