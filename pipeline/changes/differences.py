"""What differs between two scans of a place, as a table and as two images of the place, before and after."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from pipeline.changes.compare import Changes, Motion, find_changes
from pipeline.changes.pieces import Piece
from pipeline.changes.register import Registration, Scan, register_near, register_scans, require_two
from pipeline.check.report import overview_pose, shaded_view
from pipeline.geometry import Camera, Mesh, Pose, Similarity, angle_deg
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.pages import render
from pipeline.objects.listing import data_url
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64, U8, Mask

PAGE_FILE, DIFFERENCES_FILE = "differences.html", "differences.json"
"""What a version that was updated says of what differs from the one before."""
Kind = Literal["moved", "gone", "new"]
Vector = tuple[float, float, float]
Parts = dict[Kind, list[Mask]]
LENS = Camera(800, 600, 760.0, 760.0, 400.0, 300.0)
SIDE = (60.0, 55.0)
"""Azimuth and elevation that the place is seen from [degrees]."""
COLOURS: dict[Kind, tuple[int, int, int]] = {"moved": (40, 110, 230), "gone": (215, 45, 40), "new": (30, 160, 70)}
FADED = 0.75
"""How far all else fades to grey."""


@dataclass(frozen=True)
class Difference:
    """A surface that differs between two scans.

    Attributes:
        kind: What became of it.
        middle: Of its bounds, where it was, or where it is if it is new, in the first's frame [m].
        size: Edges of its bounds [m].
        area: Of what was seen of it [m^2].
        shift: How far its middle moved [m], of what moved.
        turn_deg: How far it turned.
        sigma: One sigma of the shift, per axis [m].
    """

    kind: Kind
    middle: Vector
    size: Vector
    area: float
    shift: Vector | None = None
    turn_deg: float | None = None
    sigma: float | None = None

    @property
    def said(self) -> str:
        """What it did."""
        if self.shift is None or self.turn_deg is None or self.sigma is None:
            return "seen in the first only" if self.kind == "gone" else "seen in the second only"
        x, y, z = self.shift
        length = float(np.linalg.norm(self.shift))
        return (
            f"by {length:.3f} m ({x:+.3f}, {y:+.3f}, {z:+.3f}), sigma {1000 * self.sigma:.0f} mm; "
            f"turned by {self.turn_deg:.0f} degrees"
        )


def differences(changes: Changes, first_from_second: Pose) -> list[Difference]:
    """All that differs: what moved, what is gone, what is new; the largest first."""
    gone = [_of_piece("gone", piece, Pose.identity()) for piece in changes.gone]
    new = [_of_piece("new", piece, first_from_second) for piece in changes.new]
    return [*map(_of_motion, changes.moved), *gone, *new]


def _of_piece(kind: Kind, piece: Piece, pose: Pose) -> Difference:
    points = pose.apply(piece.surface.points)
    low, high = points.min(0), points.max(0)
    return Difference(kind, _vector((low + high) / 2), _vector(high - low), round(piece.area, 3))


def _of_motion(motion: Motion) -> Difference:
    pose, fit = motion.second_from_first, motion.fit
    old = _of_piece("moved", motion.gone, Pose.identity())
    shift = pose.apply(np.array(old.middle)) - np.array(old.middle)
    arm = np.array(old.middle) - fit.middle
    turning = np.array([[0, arm[2], -arm[1]], [-arm[2], 0, arm[0]], [arm[1], -arm[0], 0]])
    slope = np.concatenate([turning, np.eye(3)], 1)
    sigma = float(np.sqrt(np.trace(slope @ fit.covariance @ slope.T) / 3))
    turn = float(angle_deg(np.eye(3), pose.rotation))
    return replace(old, shift=_vector(shift), turn_deg=round(turn, 2), sigma=round(sigma, 5))


def _vector(values: F64) -> Vector:
    x, y, z = (round(float(value), 4) for value in values)
    return x, y, z


def save_differences(names: tuple[str, str], found: Sequence[Difference], folder: Path) -> None:
    """Write `differences.json`."""
    content = {"before": names[0], "again": names[1], "differences": [asdict(one) for one in found]}
    (folder / DIFFERENCES_FILE).write_text(json.dumps(content, indent=1))


def load_differences(folder: Path) -> list[Difference]:
    """Read what `save_differences` wrote."""
    content = json.loads((folder / DIFFERENCES_FILE).read_text())
    return TypeAdapter(list[Difference]).validate_python(content["differences"])


def table_rows(found: Sequence[Difference]) -> list[tuple[str, str, str, str]]:
    """Kind, place, size and motion of each, as texts."""
    return [
        (
            one.kind,
            ", ".join(f"{value:.2f}" for value in one.middle),
            " x ".join(f"{value:.2f}" for value in one.size),
            one.said,
        )
        for one in found
    ]


COLUMNS = ("what", "where [m]", "size [m]", "how")
"""Of the table."""


def pictures(first: Scan, second: Scan, changes: Changes, first_from_second: Pose) -> tuple[U8, U8]:
    """The place before and after, seen from above from one side; what moved is blue, gone red, new green."""
    before: Parts = {
        "moved": [one.gone.triangles for one in changes.moved],
        "gone": [one.triangles for one in changes.gone],
    }
    after: Parts = {
        "moved": [one.new.triangles for one in changes.moved],
        "new": [one.triangles for one in changes.new],
    }
    there = _painted(second.mesh, after).transformed(Similarity.from_pose(first_from_second))
    here = _painted(first.mesh, before)
    view = overview_pose(here, LENS, *SIDE)
    return shaded_view(here, LENS, view), shaded_view(there, LENS, view)


def _painted(mesh: Mesh, parts: Parts) -> Mesh:
    """A mesh in grey, but for parts of it."""
    colors = mesh.colors.astype(np.float64)
    colors += FADED * (colors.mean(1, keepdims=True) / 2 + 100 - colors)
    for kind, masks in parts.items():
        for mask in masks:
            colors[mesh.triangles[mask].ravel()] = COLOURS[kind]
    return replace(mesh, colors=np.round(colors).astype(np.uint8), guessed=np.zeros(len(colors), bool))


def said_place(registration: Registration) -> str:
    """How well the scans lie on each other, in a line."""
    return (
        f"surfaces that stayed lie {1000 * registration.residual:.1f} mm apart; {registration.agreement:.0%} of what "
        "one has and the other looked at is there"
    )


def compare_bundles(first: Bundle, second: Bundle, page: Path) -> list[Difference]:
    """Find what differs between two bundles of a place, and write the page that shows it.

    Raises:
        BundleError: When they are one scan, not of one place, or not of one scale.
        MachineError: When the page can't be written.
    """
    require_two(first, second)
    scans, names = (Scan.of(first), Scan.of(second)), (first.manifest.reference, second.manifest.reference)
    if names[0] in second.manifest.parents or names[1] in first.manifest.parents:  # in one frame
        registration = register_near(*scans, Pose.identity())
    else:
        registration = register_scans(*scans)
    changes, pose = find_changes(*scans, registration), registration.first_from_second
    found = differences(changes, pose)
    write_page(names, f"{said_place(registration)}.", found, pictures(*scans, changes, pose), page)
    return found


def write_page(
    names: tuple[str, str], told: str, found: Sequence[Difference], shown: tuple[U8, U8], file: Path
) -> None:
    """Write a page with the table and both pictures.

    Raises:
        MachineError: When it can't be written.
    """
    page = render(
        "pipeline.changes",
        "differences.html",
        title=f"From {names[0]} to {names[1]}",
        told=told,
        columns=COLUMNS,
        rows=table_rows(found),
        pictures=[(name, data_url(image)) for name, image in zip(names, shown, strict=True)],
        colours={kind: f"rgb{colour}" for kind, colour in COLOURS.items()},
    )
    with machine_errors(file):
        write_whole(file, page, alone=True)
