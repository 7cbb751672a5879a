"""KernelDNA and its relatives in PyTorch: layers and networks."""

from .dynamic import DCDConv2d, DyConv2d, DYCls, ODConv2d
from .dynamic_export import register
from .dynamic_networks import DYNAMIC_ARCHS
from .fdconv import FDConv
from .kernels import ACDCChain, RuntimeConv2d, SparseKernelConv2d, XVolution
from .layers import CondConv2d, SqueezeExcite, child_conv2d, child_kernel
from .network_file import export
from .networks import ARCHS, build, multiply_adds, parameter_count
from .position import SKA, LSConv
from .trace import Node
from .values import ExportError
from .warehouse import KWManager

ARCHS.update(DYNAMIC_ARCHS)

__all__ = [
    "ACDCChain",
    "ARCHS",
    "CondConv2d",
    "DCDConv2d",
    "DYCls",
    "DyConv2d",
    "ExportError",
    "FDConv",
    "KWManager",
    "LSConv",
    "Node",
    "ODConv2d",
    "RuntimeConv2d",
    "SKA",
    "SparseKernelConv2d",
    "SqueezeExcite",
    "XVolution",
    "build",
    "child_conv2d",
    "child_kernel",
    "export",
    "multiply_adds",
    "parameter_count",
    "register",
]
