"""The operations against PyTorch's."""
