"""KernelWarehouse: the kernels of several convolutions are mixtures of cells from one shared warehouse.

A kernel [O, C/g, k, k] is cut into m = gs * go * gi cells of the warehouse's shape [o_e, c_e, k_e, k_e], with
go = O / o_e, gi = C / g / c_e and gs = (k / k_e)^2; cell j of sample b is sum_i alpha[b, j, i] e[i] over the n cells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv2d_per_sample


def claimed_cells(mixtures: int, cell_num_ratio: float) -> int:
    """How many cells a convolution with m mixtures takes for its own."""
    if cell_num_ratio >= 1:
        return int(cell_num_ratio) * mixtures
    p = int(1 / cell_num_ratio)  # the diagonal of each p x p square of mixtures
    return sum(j % p == j // p % p for j in range(mixtures))


class KWAttention(nn.Module):
    """alpha [B, m, n] = u / (sum |u| + 0.001) over n + 1 entries, the last one then dropped; signed.

    z = relu(norm1(fc1(mean_hw(x)))) [B, h], h = max(int(C * reduction), 16); u = fc2 z [B, m, n + 1].
    With ``basis`` < 1, fc2 (no bias) gives n_local + n_basis + 1 entries for each mixture, ``fc3`` [n_other, n_basis]
    expands the middle ones to the n_other cells claimed by other convolutions, those before ``start`` go first, then
    the local ones, then the rest, and ``basis_bias`` [m (n + 1)] is added.
    """

    def __init__(
        self, cin: int, cells: int, mixtures: int, reduction: float, cell_num_ratio: float, basis: float, start: int
    ) -> None:
        super().__init__()
        hidden = max(int(cin * reduction), 16)
        self.mixtures, self.cells, self.start = mixtures, cells, start
        self.local = int(cell_num_ratio * mixtures)
        self.fc1 = nn.Linear(cin, hidden, bias=False)
        self.norm1 = nn.BatchNorm1d(hidden)
        self.fc3: nn.Module | None = None
        if basis >= 1:
            self.fc2 = nn.Linear(hidden, mixtures * (cells + 1))
        else:
            other = cells - self.local
            width = max(int(other * basis), 16)
            self.fc2 = nn.Linear(hidden, mixtures * (self.local + width + 1), bias=False)
            self.fc3 = nn.Linear(width, other, bias=False)
            self.basis_bias = nn.Parameter(torch.zeros(mixtures * (cells + 1)))

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.norm1(self.fc1(x.mean((2, 3)))))
        u = self.fc2(z).unflatten(1, (self.mixtures, -1))
        if self.fc3 is not None:
            local, rest, last = u[..., : self.local], u[..., self.local : -1], u[..., -1:]
            other = self.fc3(rest)
            u = torch.cat([other[..., : self.start], local, other[..., self.start :], last], -1)
            u = u + self.basis_bias.view(self.mixtures, -1)
        return (u / (u.abs().sum(-1, keepdim=True) + 1e-3))[..., :-1]


class KWConv2d(nn.Module):
    """Convolution with a kernel from a warehouse, x [B, C, H, W] -> [B, O, H', W']; made by ``KWManager.conv``.

    Keys: ``attention.{fc1,norm1,fc2}``, ``bias`` [O] (optional, static). The cells belong to the manager.
    """

    def __init__(
        self,
        manager: KWManager,
        warehouse: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int,
        groups: int,
        bias: bool,
    ) -> None:
        super().__init__()
        self.shape = (out_channels, in_channels // groups, kernel_size)
        self.in_channels, self.stride, self.padding, self.groups = in_channels, stride, padding, groups
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.warehouse = warehouse
        self.managers = (manager,)  # in a tuple, so that it is no submodule of this one

    def grid(self) -> tuple[int, int, int]:
        """(gs, go, gi): the kernel's cells over space, output and input channels."""
        out, per_group, k = self.shape
        _, o_e, c_e, k_e, _ = self.managers[0].weights[self.warehouse].shape
        return (k // k_e) ** 2, out // o_e, per_group // c_e

    def kernels(self, x: Tensor) -> Tensor:
        """The samples' kernels [B, O, C/g, k, k]."""
        e = self.managers[0].weights[self.warehouse]
        cells = (self.attention(x) @ e.flatten(1)).view(len(x), *self.grid(), *e.shape[1:])
        out, per_group, k = self.shape  # [B, gs, go, gi, o_e, c_e, k_e, k_e]
        return cells.permute(0, 2, 4, 3, 5, 1, 6, 7).reshape(len(x), out, per_group, k, k)

    def forward(self, x: Tensor) -> Tensor:
        y = conv2d_per_sample(x, self.kernels(x), None, self.stride, self.padding, 1, self.groups)
        return y if self.bias is None else y + self.bias[:, None, None]


class KWManager(nn.Module):
    """The warehouses of a network; keys ``weights.i`` [n, o_e, c_e, k_e, k_e].

    ``conv`` makes the convolutions, each for a named warehouse (numbered as the names first occur); ``store(network)``
    then sizes the warehouses. Cells have the greatest common divisor of the convolutions' channels times the
    in/outplane ratio, and one spatial tap (``spatial_partition``) or the whole k x k;
    n = int(cell_num_ratio * the sum of m), at least 1.
    """

    def __init__(
        self,
        cell_num_ratio: float = 1,
        cell_inplane_ratio: float = 1,
        cell_outplane_ratio: float = 1,
        nonlocal_basis_ratio: float = 1,
        spatial_partition: bool = True,
        reduction: float = 0.0625,
    ) -> None:
        super().__init__()
        self.cell_num_ratio, self.reduction = cell_num_ratio, reduction
        self.cell_inplane_ratio, self.cell_outplane_ratio = cell_inplane_ratio, cell_outplane_ratio
        self.nonlocal_basis_ratio, self.spatial_partition = nonlocal_basis_ratio, spatial_partition
        self.names: dict[str, list[KWConv2d]] = {}
        self.weights = nn.ParameterList()

    def conv(
        self,
        name: str,
        cin: int,
        cout: int,
        kernel: int,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> KWConv2d:
        """A convolution of warehouse ``name``, padded by kernel // 2 unless ``padding`` is given."""
        users = self.names.setdefault(name, [])
        warehouse = list(self.names).index(name)
        padding = kernel // 2 if padding is None else padding
        users.append(KWConv2d(self, warehouse, cin, cout, kernel, stride, padding, groups, bias))
        return users[-1]

    def store(self, network: nn.Module) -> None:
        """Makes the cells, and the attentions in the order of the network's modules: that is how cells are claimed."""
        for users in self.names.values():
            outs, ins, kernels = zip(*(user.shape for user in users))
            o_e = max(int(math.gcd(*outs) * self.cell_outplane_ratio), 1)
            c_e = max(int(math.gcd(*ins) * self.cell_inplane_ratio), 1)
            if not self.spatial_partition and len(set(kernels)) > 1:
                raise ValueError("cells of whole kernels need kernels of one size")
            k_e = 1 if self.spatial_partition else kernels[0]
            mixtures = sum((k // k_e) ** 2 * (o // o_e) * (c // c_e) for o, c, k in zip(outs, ins, kernels))
            cells = max(int(mixtures * self.cell_num_ratio), 1)
            self.weights.append(nn.Parameter(torch.randn(cells, o_e, c_e, k_e, k_e)))
        claimed = [0] * len(self.weights)
        for conv in network.modules():
            if isinstance(conv, KWConv2d):
                w, mixtures = conv.warehouse, math.prod(conv.grid())
                conv.attention = KWAttention(
                    conv.in_channels,
                    len(self.weights[w]),
                    mixtures,
                    self.reduction,
                    self.cell_num_ratio,
                    self.nonlocal_basis_ratio,
                    claimed[w],
                )
                claimed[w] += claimed_cells(mixtures, self.cell_num_ratio)
        if claimed != [len(cells) for cells in self.weights]:
            held = [len(cells) for cells in self.weights]
            raise ValueError(f"the convolutions claim {claimed} cells, the warehouses have {held}")


class KWChain(nn.Module):
    """Convolutions one after another that share one warehouse; keys ``convs.i.*``, ``warehouse_manager.weights.0``."""

    def __init__(self, manager: KWManager, convs: Sequence[KWConv2d], acts: Sequence[str]) -> None:
        super().__init__()
        self.convs, self.acts = nn.ModuleList(convs), acts
        self.warehouse_manager = manager
        manager.store(self)

    def forward(self, x: Tensor) -> Tensor:
        for conv, act in zip(self.convs, self.acts):
            x = F.relu(conv(x)) if act == "relu" else conv(x)
        return x
