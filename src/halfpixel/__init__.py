"""Find every object in an image, cut each one out, count them and measure them.

import halfpixel

objects = halfpixel.load("nuclei").predict("cells.png")
print(len(objects))
"""

import lazy_loader

__version__ = "0.1.0"

# The command line's help must not wait for torch: what each name stands for is in `__init__.pyi`.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
