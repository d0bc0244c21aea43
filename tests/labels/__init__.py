"""The label store, the quality of its labels without a truth, and its export."""
