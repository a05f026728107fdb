"""Parameters of the capture and select stages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CaptureParams:
    """How a source is read into the canonical capture."""

    min_frames: int = 3
    """Fewest readable pictures that are worth starting with."""
    max_bad_share: float = 0.2
    """Largest share of unreadable pictures that are skipped and reported; above it reading stops."""
    min_track: float = 0.05
    """Smallest extent of the camera track [m], where poses are given."""

    def __post_init__(self) -> None:
        if self.min_frames < 2:
            raise ValueError(f"min_frames must be at least 2, got {self.min_frames}")
        if not 0 <= self.max_bad_share < 1:
            raise ValueError(f"max_bad_share must lie in [0, 1), got {self.max_bad_share}")
        if self.min_track < 0:
            raise ValueError(f"min_track must not be negative, got {self.min_track}")


@dataclass(frozen=True)
class SelectParams:
    """Which frames become keyframes, and which of those are held out."""

    max_keyframes: int = 240
    """Most keyframes; above it the sharpest of evenly spread groups stay."""
    held_out_every: int = 8
    """Keyframe 0, 8, 16 ... is kept from map and training to measure them; nothing is held out of fewer than this."""
    min_sharpness: float = 0.15
    """Least variance of the Laplacian relative to the neighbours' median; softer frames are dropped as blurred."""
    max_blur: float = 0.7
    """Largest blur (0 sharp, 1 blurred: share of gradients that survive another blur) whatever the neighbours."""
    min_parallax: float = 0.0015
    """Least median movement against the last keyframe [share of the long side]; ordered captures only."""
    min_usable_share: float = 0.5
    """Smallest share of frames that are neither black nor blurred; below it the capture is refused."""

    def __post_init__(self) -> None:
        if self.max_keyframes < 3:
            raise ValueError(f"max_keyframes must be at least 3, got {self.max_keyframes}")
        if self.held_out_every < 2:
            raise ValueError(f"held_out_every must be at least 2, got {self.held_out_every}")
        for name in ("min_sharpness", "max_blur", "min_parallax", "min_usable_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
