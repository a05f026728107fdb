"""The published configuration, as far as it is asked for."""

from __future__ import annotations


class Configuration(dict):
    """A mapping with attributes, as OmegaConf's."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def get_hparams(config) -> Configuration:
    """The configuration of a name."""
    if isinstance(config, str):
        assert config == "ks"
        url = "https://huggingface.co/heiwang1997/nksr-checkpoints/resolve/main/checkpoints/ks.pth"
        return Configuration(url=url, voxel_size=0.1, density_range=[1.0, 20.0])
    return Configuration(config)
