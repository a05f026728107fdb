"""A network for sets of Gaussians, in any order."""

from __future__ import annotations

import torch
from torch import nn

from train.tokens import COLOR, FEATURES, OPACITY, POSITION, SPREAD

NEIGHBOURHOOD = 2.0
"""Most Gaussians lie as near as that [m]."""
USUAL_SPREAD = 0.1
"""Of a Gaussian [m]."""
HIDDEN = -1e4
"""To what attention pays a place in the row where there is no Gaussian."""


class SetTransformer(nn.Module):
    """Tokens attend to each other, then a few learned queries to all of them (Lee et al., 2019: SAB and PMA).

    The numbers that come out don't depend on the tokens' order, nor on empty places among them.

    Args:
        shape: Of a set (T, 13), see `train.tokens`.

    Attributes:
        size: Numbers that come out.
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, shape: tuple[int, ...], width: int = 32, queries: int = 4) -> None:
        super().__init__()
        if shape[1] != FEATURES:
            raise ValueError(f"a token has {FEATURES} numbers, got {shape[1]}")
        shift, scale = torch.zeros(FEATURES), torch.ones(FEATURES)
        scale[POSITION] = 1 / NEIGHBOURHOOD
        shift[SPREAD][:3] = -torch.tensor(USUAL_SPREAD).log()
        shift[COLOR] = -0.5
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.embed = nn.Sequential(nn.Linear(FEATURES, width), nn.ELU(), nn.Linear(width, width))
        self.among = _Attention(width)
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.pool = _Attention(width)
        self.size = queries * width

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Numbers (B, size) of tokens (B, T, 13)."""
        bias = torch.where(tokens[..., OPACITY] > 0, 0.0, HIDDEN).transpose(1, 2)[:, None]
        embedded = self.embed((tokens + self.shift) * self.scale)
        embedded = self.among(embedded, embedded, bias)
        return self.pool(self.queries.expand(len(tokens), -1, -1), embedded, bias).flatten(1)


class _Attention(nn.Module):
    """A block of a transformer that looks from some rows at others; layers normalise first (Xiong et al., 2020).

    Of torch's own functions, for its modules take ways in evaluation that can't be exported.
    """

    def __init__(self, width: int, heads: int = 2) -> None:
        super().__init__()
        self._heads = heads
        self.asking, self.asked = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # one would shift a query's attention to all alike
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ELU(), nn.Linear(2 * width, width)
        )

    def forward(self, rows: torch.Tensor, others: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """New rows (B, Q, D) of rows (B, Q, D) that look at others (B, T, D); bias (B, 1, 1, T) of the attention."""
        query = self._split(self.query(self.asking(rows)))
        others = self.asked(others)
        key, value = self._split(self.key(others)), self._split(self.value(others))
        seen = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        rows = rows + self.out(seen.transpose(1, 2).flatten(2))
        return rows + self.layers(rows)

    def _split(self, rows: torch.Tensor) -> torch.Tensor:
        """Of rows (B, T, D), each head's part (B, heads, T, D / heads)."""
        return rows.unflatten(2, (self._heads, -1)).transpose(1, 2)
