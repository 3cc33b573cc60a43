"""What carries a ControlNet's tokens into a transformer: Vivid-VR's dual-branch connector, and what it is held
against."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

ConnectorKind = Literal["dual", "mlp", "attention", "sft"]
KINDS = get_args(ConnectorKind)


def zeroed(layer: nn.Module) -> nn.Module:
    """The same layer with all its parameters 0, so that what it ends changes nothing at first."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _narrow(width: int, bottleneck: int, zero: bool = False) -> nn.Sequential:
    last = nn.Linear(bottleneck, width)
    return nn.Sequential(nn.Linear(width, bottleneck), nn.SiLU(), zeroed(last) if zero else last)


class Connector(nn.Module):
    """Adds to a transformer's tokens what a ControlNet's say, by a mapping of the latter and by attention to them.

    `h + out(attention(q(h), k(c), c)) + mlp(c)`; the values are the control tokens themselves. There is neither a
    mask nor a position. The last layers of both branches begin at zero. Tensors are named as in the released
    checkpoint.

    Args:
        width: of the tokens.
        heads: of the attention.
        bottleneck: of all mappings.
        kind: "dual" is the published one; "mlp" and "attention" have one branch only.

    Source: Vivid-VR (arXiv 2508.14483, section 3.2, table 2).
    """

    def __init__(self, width: int, heads: int, bottleneck: int = 512, kind: ConnectorKind = "dual") -> None:
        super().__init__()
        self.heads = heads
        self.attends = kind in ("dual", "attention")
        if self.attends:
            self.to_q = _narrow(width, bottleneck)
            self.to_k = _narrow(width, bottleneck)
            self.norm_q = nn.LayerNorm(width // heads, eps=1e-6)
            self.norm_k = nn.LayerNorm(width // heads, eps=1e-6)
            self.out_layer = _narrow(width, bottleneck, zero=True)
        self.c_mlp = _narrow(width, bottleneck, zero=True) if kind in ("dual", "mlp") else None

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """`[B, N, width]` tokens of the transformer and of the ControlNet, text left out; the former changed."""
        told = torch.zeros_like(h) if self.c_mlp is None else self.c_mlp(c)
        if self.attends:
            q, k, v = (
                part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                for part in (self.to_q(h), self.to_k(c), c)
            )
            found = functional.scaled_dot_product_attention(self.norm_q(q), self.norm_k(k), v)
            told = told + self.out_layer(found.transpose(1, 2).flatten(2))
        return h + told


class FeatureTransform(nn.Module):
    """What connectors are held against: tokens normalised, then scaled and shifted as the control tokens say.

    Scale and shift begin at zero, so at first nothing changes; the published ZeroSFT normalises from the start.

    Args:
        width: of the tokens.
        bottleneck: of both mappings.

    Source: SUPIR (Yu et al. 2024, arXiv 2401.13627), as the ablation of Vivid-VR's table 2.
    """

    def __init__(self, width: int, bottleneck: int = 512) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.scale = _narrow(width, bottleneck, zero=True)
        self.shift = _narrow(width, bottleneck, zero=True)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """As `Connector`."""
        return h + self.scale(c) * self.norm(h) + self.shift(c)


def connector(width: int, heads: int, bottleneck: int, kind: ConnectorKind) -> nn.Module:
    """One connector of a kind."""
    return FeatureTransform(width, bottleneck) if kind == "sft" else Connector(width, heads, bottleneck, kind)
