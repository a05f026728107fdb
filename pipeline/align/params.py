"""Parameters of the align stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownLength:
    """Two pixels of one photo whose places are a known distance apart.

    Attributes:
        metres: The distance [m].
        image: The photo's file name.
        a: First pixel (u, v) of the photo as it is shown (EXIF orientation applied).
        b: Second pixel.
    """

    metres: float
    image: str
    a: tuple[float, float]
    b: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.metres > 0:
            raise ValueError(f"a known length must be positive, got {self.metres}")
        if self.a == self.b:
            raise ValueError(f"a known length needs two different pixels, got {self.a} twice")


@dataclass(frozen=True)
class AlignParams:
    """How gravity and scale are found.

    Attributes:
        known_length: Gives the scale of a capture that has none, or overrules its own.
        camera_height: The track's median height above the floor [m]; the same, but cruder.
        seed: Seed of the plane search.
    """

    known_length: KnownLength | None = None
    camera_height: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.camera_height is not None and not 0.05 < self.camera_height < 20:
            raise ValueError(f"camera_height must be 0.05 to 20 m, got {self.camera_height}")
        if self.known_length is not None and self.camera_height is not None:
            raise ValueError("give known_length or camera_height, not both")
