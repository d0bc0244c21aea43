"""The ways to compute a convolution and its gradients: TensorFlow's primitives, unfolding, shifted products."""
