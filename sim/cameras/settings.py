"""How a robot's camera behaves: its clock, its exposure, its flaws. All off by default; drawn anew in each episode."""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class CameraSettings:
    """Ranges are drawn from evenly, for each environment at the beginning of each episode.

    Attributes:
        period: Between two pictures [s]; 0 takes one at every control step.
        latency: Between exposure and arrival [s].
        dropped: Share of pictures that never arrive.
        exposure: During which a picture blurs along the camera's motion [s].
        blur_samples: Pictures that are averaged for that.
        mount_shift: Largest shift of the mount along each axis [m].
        mount_turn: Largest turn of the mount about each axis [rad].
        gain: Factor of the brightness.
        white_balance: Factor of each colour channel.
        noise: Standard deviation of the read-out's noise, 0..1.
        jpeg_quality: 1..100 of a JPEG between camera and agent; None for none.
    """

    period: Range = (0.0, 0.0)
    latency: Range = (0.0, 0.0)
    dropped: float = 0.0
    exposure: float = 0.0
    blur_samples: int = 5
    mount_shift: float = 0.0
    mount_turn: float = 0.0
    gain: Range = (1.0, 1.0)
    white_balance: Range = (1.0, 1.0)
    noise: float = 0.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        for name in ("period", "latency", "gain", "white_balance"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be a range of numbers from 0 on, got {low} to {high}")
        for name in ("exposure", "mount_shift", "mount_turn", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped must lie in [0, 1), got {self.dropped}")
        if self.blur_samples < 2:
            raise ValueError(f"blur_samples must be at least 2, got {self.blur_samples}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, got {self.jpeg_quality}")
