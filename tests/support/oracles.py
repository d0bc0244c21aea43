"""What the operations are held to: nested loops in NumPy that anybody can check by eye, and finite differences."""

import itertools

import numpy as np


def finite_difference_gradient(function, array, cotangent, step=1e-6):
    """d<cotangent, function(x)>/dx at x = array, by central differences, one element at a time.

    Args:
        function: float64 array of the shape of `array` -> array or tensor of the shape of `cotangent`.
        array: the point; any shape.
        cotangent: g = dL/dy, of the shape of the function's result.
        step: half the distance between the two points; its square is the order of the error.

    Returns:
        The gradient, float64, of the shape of `array`.
    """
    point = np.array(array, np.float64)
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        middle = point[index]
        point[index] = middle + step
        above = np.asarray(function(point.copy()))
        point[index] = middle - step
        below = np.asarray(function(point.copy()))
        point[index] = middle
        gradient[index] = np.sum((above - below) * cotangent) / (2 * step)
    return gradient


def assert_gradient(derived, expected, tolerance):
    """Fails unless the gradient has the expected shape and every element is within the tolerance.

    Args:
        derived: what the operation returned, array or tensor.
        expected: what the oracle says.
        tolerance: the largest error, as a part of max(1, the largest absolute value expected).
    """
    derived, expected = np.asarray(derived, np.float64), np.asarray(expected, np.float64)
    assert derived.shape == expected.shape
    scale = max(1.0, np.max(np.abs(expected), initial=0.0))
    np.testing.assert_allclose(derived, expected, rtol=0, atol=tolerance * scale)


def assert_rejects_swapped_axes(derived, expected, tolerance):
    """Fails unless a gradient passes `assert_gradient`, and does no longer with any two axes of one length swapped.

    Args:
        derived: what the operation returned; two axes or more have the same length, above 1.
        expected: what an independent oracle says.
        tolerance: as `assert_gradient` takes it.
    """
    assert_gradient(derived, expected, tolerance)
    derived = np.asarray(derived, np.float64)
    swapped = 0
    for first, second in itertools.combinations(range(derived.ndim), 2):
        if derived.shape[first] == derived.shape[second] > 1:
            swapped += 1
            with np.testing.assert_raises(AssertionError):
                assert_gradient(np.swapaxes(derived, first, second), expected, tolerance)
    assert swapped, f"no two axes of {derived.shape} have one length above 1"


def patchify(images, kernel):
    """y[b,h,w,f] = sum_pqc x[b,hP+p,wP+q,c] K[p,q,c,f], a loop per output element."""
    size = kernel.shape[0]
    batch, height, width, _ = images.shape
    result = np.zeros((batch, height // size, width // size, kernel.shape[3]))
    for b, h, w, f in np.ndindex(result.shape):
        patch = images[b, h * size : (h + 1) * size, w * size : (w + 1) * size]
        result[b, h, w, f] = np.sum(patch * kernel[..., f])
    return result


def windows(images_shape, window, strides, padding):
    """The windows of one image that a kernel or a pool sees.

    Args:
        images_shape: (B, H, W, C).
        window: (height, width) of the window.
        strides: (vertical, horizontal).
        padding: ((top, bottom), (left, right)).

    Yields:
        (h, w, rows, columns): the place in the output, and lists of (place in the window, place in the image) for rows
        and for columns that lie inside the image.
    """

    def axis(length, size, stride, before, after):
        for place in range((length + before + after - size) // stride + 1):
            inside = ((p, place * stride - before + p) for p in range(size))
            yield place, [(p, source) for p, source in inside if 0 <= source < length]

    rows = axis(images_shape[1], window[0], strides[0], *padding[0])
    columns = list(axis(images_shape[2], window[1], strides[1], *padding[1]))
    for (h, inside_rows), (w, inside_columns) in itertools.product(rows, columns):
        yield h, w, inside_rows, inside_columns


def output_shape(images_shape, window, strides, padding, channels):
    """(B, H', W', channels) of a convolution or a pooling."""
    height, width = (
        (length + sum(pad) - size) // stride + 1
        for length, size, stride, pad in zip(images_shape[1:3], window, strides, padding, strict=True)
    )
    return images_shape[0], height, width, channels


def convolution(images, kernel, strides, padding):
    """y[b,h,w,f] = sum_pqc x[b,hS+p-top,wT+q-left,c] K[p,q,c,f], x being 0 outside of the image.

    Args:
        images: (B, H, W, C).
        kernel: (P, Q, C, F).
        strides: (S, T).
        padding: ((top, bottom), (left, right)).
    """
    result = np.zeros(output_shape(images.shape, kernel.shape[:2], strides, padding, kernel.shape[3]))
    for h, w, rows, columns in windows(images.shape, kernel.shape[:2], strides, padding):
        for (p, i), (q, j) in itertools.product(rows, columns):
            for b, f in np.ndindex(images.shape[0], kernel.shape[3]):
                result[b, h, w, f] += np.dot(images[b, i, j], kernel[p, q, :, f])
    return result


def convolution_gradients(images, kernel, cotangent, strides, padding):
    """(dL/dx, dL/dK): every product of the forward loop hands its cotangent to its two factors."""
    images_gradient, kernel_gradient = np.zeros(images.shape), np.zeros(kernel.shape)
    for h, w, rows, columns in windows(images.shape, kernel.shape[:2], strides, padding):
        for (p, i), (q, j) in itertools.product(rows, columns):
            for b, f in np.ndindex(images.shape[0], kernel.shape[3]):
                images_gradient[b, i, j] += cotangent[b, h, w, f] * kernel[p, q, :, f]
                kernel_gradient[p, q, :, f] += cotangent[b, h, w, f] * images[b, i, j]
    return images_gradient, kernel_gradient


def max_pooling(images, window, strides, padding):
    """The largest element of each window, per channel."""
    result = np.zeros(output_shape(images.shape, window, strides, padding, images.shape[3]))
    for h, w, rows, columns in windows(images.shape, window, strides, padding):
        for b, c in np.ndindex(images.shape[0], images.shape[3]):
            result[b, h, w, c] = max(images[b, i, j, c] for (_, i), (_, j) in itertools.product(rows, columns))
    return result


def max_pooling_gradient(images, cotangent, window, strides, padding):
    """dL/dx where the first of the largest elements of a window, row by row, gets the whole cotangent."""
    gradient = np.zeros(images.shape)
    for h, w, rows, columns in windows(images.shape, window, strides, padding):
        for b, c in np.ndindex(images.shape[0], images.shape[3]):
            places = [(i, j) for (_, i), (_, j) in itertools.product(rows, columns)]
            i, j = max(places, key=lambda place: images[b, place[0], place[1], c])
            gradient[b, i, j, c] += cotangent[b, h, w, c]
    return gradient


def mean_pooling(images, window, strides, padding):
    """The mean over each window's elements inside the image, per channel."""
    result = np.zeros(output_shape(images.shape, window, strides, padding, images.shape[3]))
    for h, w, rows, columns in windows(images.shape, window, strides, padding):
        elements = [images[:, i, j] for (_, i), (_, j) in itertools.product(rows, columns)]
        result[:, h, w] = sum(elements) / len(elements)
    return result


def mean_pooling_gradient(images_shape, cotangent, window, strides, padding):
    """dL/dx: every element inside a window gets an equal part of the window's cotangent."""
    gradient = np.zeros(images_shape)
    for h, w, rows, columns in windows(images_shape, window, strides, padding):
        for (_, i), (_, j) in itertools.product(rows, columns):
            gradient[:, i, j] += cotangent[:, h, w] / (len(rows) * len(columns))
    return gradient
