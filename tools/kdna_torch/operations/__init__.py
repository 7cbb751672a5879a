"""Which nodes of the file PyTorch's functions become.

A handler gets the call's arguments and gives the value, or a list of them, that the results stand for. It raises
``Inexpressible`` where the file has no node for the call. Importing this package fills the table of handlers.
"""

from . import attention, elements, layers, shapes, windows
from .common import integer, pair

__all__ = ["attention", "elements", "integer", "layers", "pair", "shapes", "windows"]
