"""Each operation's gradient, against loops in NumPy, finite differences and automatic differentiation."""
