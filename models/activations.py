"""The activation under its former name, from before the layers had a room of their own: others may import it."""

from models.layers import Activation as Activation
