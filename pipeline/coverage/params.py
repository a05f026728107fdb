"""Parameters of the coverage stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoverageParams:
    """For which camera the pictures are judged, and how finely.

    Attributes:
        cell: Distance between the places that are judged [m]; grows where there would be more than `places`.
        places: Largest number of places.
        headings: Directions at every place.
        camera_height: Of the robot's camera over the floor [m].
        field_of_view: Of that camera, across [degrees].
    """

    cell: float = 0.25
    places: int = 200
    headings: int = 8
    camera_height: float = 0.3
    field_of_view: float = 80.0

    def __post_init__(self) -> None:
        if not 0.05 <= self.cell <= 5:
            raise ValueError(f"coverage.cell must be 0.05 to 5 m, got {self.cell}")
        if self.places < 1 or not 4 <= self.headings <= 64:
            raise ValueError(f"coverage needs at least one place and 4 to 64 headings, got {self}")
        if not 0.05 <= self.camera_height <= 3:
            raise ValueError(f"coverage.camera_height must be 0.05 to 3 m, got {self.camera_height}")
        if not 20 <= self.field_of_view <= 140:
            raise ValueError(f"coverage.field_of_view must be 20 to 140 degrees, got {self.field_of_view}")
