"""KernelDNA layers and networks in PyTorch."""

from .layers import CondConv2d, SqueezeExcite, child_conv2d, child_kernel
from .networks import ARCHS, build, multiply_adds, parameter_count

__all__ = [
    "ARCHS",
    "CondConv2d",
    "SqueezeExcite",
    "build",
    "child_conv2d",
    "child_kernel",
    "multiply_adds",
    "parameter_count",
]
