"""Order, changes, mixing and replay of images, and the batches that training sees."""
