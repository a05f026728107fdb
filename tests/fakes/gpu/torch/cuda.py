"""A GPU that only says what it is."""

from __future__ import annotations

import torch


class OutOfMemoryError(RuntimeError):
    """As torch's."""


def is_available() -> bool:
    return torch.gpu() is not None


def get_device_capability(_device=None) -> tuple[int, int]:
    return torch.gpu()[0]


def get_device_name(_device=None) -> str:
    return "Stand-in 9000"


def get_arch_list() -> list[str]:
    return ["sm_75", "sm_80", "sm_86", "sm_90"]


def mem_get_info(_device=None) -> tuple[int, int]:
    return torch.gpu()[1], 80_000_000_000


def empty_cache() -> None:
    """Nothing is kept."""
