"""Files, flags and exit codes, and the direction of imports."""
