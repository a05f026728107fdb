"""The network of `sim.sensors.ground.eyes.GroundEyes` in training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pipeline.types import F32
from sim.sensors.ground.eyes import DILATIONS, DOWN, KERNEL, LAYERS, UP


class GroundEyesNetwork(nn.Module):
    """Says how much farther than level ground what images show is; all layers but the last are normalised."""

    def __init__(self) -> None:
        super().__init__()
        steps = dict.fromkeys(LAYERS, (1, 1)) | {f"down{i}": (2, 1) for i in range(len(DOWN))}
        steps |= {f"middle{i}": (1, dilation) for i, dilation in enumerate(DILATIONS)}
        self.layers = nn.ModuleDict(
            {
                name: nn.Conv2d(before, after, KERNEL, stride, dilation, dilation)
                for (name, (before, after)), (stride, dilation) in zip(LAYERS.items(), steps.values(), strict=True)
            }
        )
        self.norms = nn.ModuleDict({name: nn.BatchNorm2d(after) for name, (_, after) in LAYERS.items()})
        del self.norms["said"]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logarithms (B, 2, H, W) of depths over those of level ground, and of their errors; of (B, 5, H, W)."""
        x, before = images, list[torch.Tensor]()
        for number in range(len(DOWN)):
            x = self._layer(f"down{number}", x)
            before.append(x)
        for number in range(len(DILATIONS)):
            x = self._layer(f"middle{number}", x)
        for number in range(len(UP)):
            x = torch.cat([functional.interpolate(x, scale_factor=2), before[-2 - number]], 1)
            x = self._layer(f"up{number}", x)
        return functional.pixel_shuffle(self.layers["said"](x), 2)

    def _layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norms[name](self.layers[name](x)))

    def arrays(self) -> dict[str, F32]:
        """Weights (3, 3, C, D) and biases (D,) by name, as a file has them: with what normalises each layer."""
        found = dict[str, F32]()
        for name, layer in self.layers.items():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weight, bias = layer.weight.detach(), layer.bias.detach()
            if name in self.norms:
                norm = self.norms[name]
                assert isinstance(norm, nn.BatchNorm2d)
                assert norm.running_var is not None
                assert norm.running_mean is not None
                factor = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
                weight = weight * factor[:, None, None, None]
                bias = (bias - norm.running_mean) * factor + norm.bias.detach()
            found[f"{name}_weight"] = weight.permute(2, 3, 1, 0).contiguous().numpy()
            found[f"{name}_bias"] = bias.clone().numpy()
        return found
