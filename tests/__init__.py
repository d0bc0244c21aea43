"""The tests, in the rooms of what they test; faults, documents and peers go through several."""
