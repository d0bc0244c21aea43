"""Where images come from: sources of every kind, what is known of them, and the store that keeps their pixels.

A spec such as `folder:DIR` becomes a `Source`, a source becomes an `ImageStore`, of which a share may be held out.
Everything here ends in RGB of 8 bits; a `View` is what is cut out of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
