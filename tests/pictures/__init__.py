"""Curves, matrices and contact sheets: the figures that stand in them."""
