"""The ways to compute a convolution and its gradients: by TensorFlow's primitives, by unfolding, by shifted products."""
