"""A preset of Keras Hub, as its own classifiers save themselves."""

import keras
import keras_hub


def save_preset(folder, scale, offset, classes=5):
    """Saves a small classifier of 32 pixels a side; returns it.

    Args:
        folder: where the preset goes.
        scale: what each channel of pixels in 0..255 is multiplied by, before
        offset: is added.
        classes: their number.
    """
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(32, 32, 3),
    )
    converter = keras_hub.layers.ResNetImageConverter(image_size=(32, 32), scale=scale, offset=offset)
    preprocessor = keras_hub.models.ResNetImageClassifierPreprocessor(image_converter=converter)
    model = keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=classes, preprocessor=preprocessor)
    model.save_to_preset(str(folder))
    return model
