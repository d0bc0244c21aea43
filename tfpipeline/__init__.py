"""Images in, batches out; training and checkpoints. Knows no teacher and no network."""
