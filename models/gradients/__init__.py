"""One operation per file: its forward pass, its derivation and its `tf.custom_gradient`.

The ways to compute a convolution are in convolution_by.
"""
