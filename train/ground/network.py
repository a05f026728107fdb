"""The network of `sim.sensors.ground.eyes.GroundEyes` in training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from pipeline.types import F32
from sim.sensors.ground.eyes import DILATIONS, DOWN, KERNEL, LAYERS, UP


class GroundEyesNetwork(nn.Module):
    """Says how much farther than level ground what images show is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Conv2d(*pair, KERNEL, padding=1) for name, pair in LAYERS.items()})
        for layer, dilation in enumerate(DILATIONS):
            wide = self.layers[f"middle{layer}"]
            assert isinstance(wide, nn.Conv2d)
            wide.dilation, wide.padding = (dilation, dilation), (dilation, dilation)
        for layer in range(len(DOWN)):
            self.layers[f"down{layer}"].stride = (2, 2)  # type: ignore[assignment]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logarithms (B, 2, H, W) of depths over those of level ground, and of their errors; of (B, 4, H, W)."""
        x, before = images, list[torch.Tensor]()
        for layer in range(len(DOWN)):
            x = functional.relu(self.layers[f"down{layer}"](x))
            before.append(x)
        for layer in range(len(DILATIONS)):
            x = functional.relu(self.layers[f"middle{layer}"](x))
        for layer in range(len(UP)):
            x = torch.cat([functional.interpolate(x, scale_factor=2), before[-2 - layer]], 1)
            x = functional.relu(self.layers[f"up{layer}"](x))
        return functional.pixel_shuffle(self.layers["said"](x), 2)

    def arrays(self) -> dict[str, F32]:
        """Weights (3, 3, C, D) and biases (D,) by name, as a file has them."""
        found = dict[str, F32]()
        for name, layer in self.layers.items():
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            found[f"{name}_weight"] = layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
            found[f"{name}_bias"] = layer.bias.detach().numpy()
        return found
