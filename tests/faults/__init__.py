"""What may happen to a run or a label store: kills, full disks, flipped bits, changed flags and data."""
