"""One operation per file: its forward pass, its derivation and its `tf.custom_gradient`."""
