"""KernelDNA and its relatives in PyTorch: layers and networks."""

from .dynamic import DCDConv2d, DyConv2d, DYCls, ODConv2d
from .dynamic_networks import DYNAMIC_ARCHS
from .kernels import ACDCChain, RuntimeConv2d, SparseKernelConv2d, XVolution
from .layers import CondConv2d, SqueezeExcite, child_conv2d, child_kernel
from .networks import ARCHS, build, multiply_adds, parameter_count
from .warehouse import KWManager

ARCHS.update(DYNAMIC_ARCHS)

__all__ = [
    "ACDCChain",
    "ARCHS",
    "CondConv2d",
    "DCDConv2d",
    "DYCls",
    "DyConv2d",
    "KWManager",
    "ODConv2d",
    "RuntimeConv2d",
    "SparseKernelConv2d",
    "SqueezeExcite",
    "XVolution",
    "build",
    "child_conv2d",
    "child_kernel",
    "multiply_adds",
    "parameter_count",
]
