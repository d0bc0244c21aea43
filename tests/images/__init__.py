"""Sources of images, hostile files among them, their truth, and the store that they are kept in."""
