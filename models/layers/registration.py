"""The name under which Keras files know what is ours."""

import keras

register = keras.saving.register_keras_serializable("tfpipeline")
