"""KernelDNA and its relatives in PyTorch: layers and networks."""

from . import context_export as _context_export  # registers its layers
from .convnext import CONVNEXT_ARCHS
from .dymn import DyMNBlock, DynamicConv
from .dynamic import DCDConv2d, DyConv2d, DYCls, ODConv2d
from .dynamic_export import register
from .dynamic_networks import DYNAMIC_ARCHS
from .fdconv import FDConv
from .kernels import ACDCChain, RuntimeConv2d, SparseKernelConv2d, XVolution
from .layers import CondConv2d, SqueezeExcite, child_conv2d, child_kernel
from .modulated import ModulatedConv2d, StyledConv2d
from .network_file import export
from .networks import ARCHS, build, multiply_adds, parameter_count
from .position import SKA, LSConv
from .trace import Node
from .values import ExportError
from .warehouse import KWManager

ARCHS.update(DYNAMIC_ARCHS)
ARCHS.update(CONVNEXT_ARCHS)

__all__ = [
    "ACDCChain",
    "ARCHS",
    "CondConv2d",
    "DCDConv2d",
    "DYCls",
    "DyConv2d",
    "DyMNBlock",
    "DynamicConv",
    "ExportError",
    "FDConv",
    "KWManager",
    "ModulatedConv2d",
    "LSConv",
    "Node",
    "ODConv2d",
    "RuntimeConv2d",
    "SKA",
    "SparseKernelConv2d",
    "SqueezeExcite",
    "StyledConv2d",
    "XVolution",
    "build",
    "child_conv2d",
    "child_kernel",
    "export",
    "multiply_adds",
    "parameter_count",
    "register",
]
