"""A robot's run in a bundle, recorded: playing it needs neither physics nor kernels that would first be compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipeline.gallery.viewpoint import Viewpoint
from pipeline.types import F32, F64, I64, U8

FIELD_OF_VIEW = float(np.deg2rad(62))
"""Vertical [rad]."""


@dataclass(frozen=True)
class Recording:
    """What moved, in the frame of the bundle with a build key; T moments at a rate [Hz].

    Attributes:
        links: World from link (T, L, 7) by the robot's links: position [m], then quaternion w, x, y, z.
        balls: Balls of the task (T, B, 7): centre and radius [m], then colour, 0..1.
        found: Episodes until then that ended at the goal (T,).
        over: Episodes that had ended until then (T,).
        surface: Triangles (F, 3, 3) of the robot, each in the frame of its link [m]; none of a robot whose model is an
            extra.
        surface_link: These links (F,).
        eye: From where the run is seen well (3,) [m].
        at: What one looks at from there (3,) [m].
    """

    build_key: str
    rate: float
    links: F32
    balls: F32
    found: I64
    over: I64
    surface: F32
    surface_link: I64
    eye: F32
    at: F32

    @property
    def viewpoint(self) -> Viewpoint:
        """From where all of it is seen."""
        eye, at = (tuple(map(float, place)) for place in (self.eye, self.at))
        return Viewpoint((eye[0], eye[1], eye[2]), (at[0], at[1], at[2]), FIELD_OF_VIEW)

    @property
    def seconds(self) -> float:
        """How long it lasts [s]."""
        return len(self.links) / self.rate

    def links_at(self, seconds: float) -> F64:
        """World from link (L, 7) at a time, between two moments of an episode interpolated."""
        moment, share = divmod(seconds * self.rate, 1)
        before = after = self.links[int(moment)].astype(np.float64)
        if moment + 1 < len(self.links) and self.over[int(moment)] == self.over[int(moment) + 1]:
            after = self.links[int(moment) + 1]
        same_side = np.sign((before[:, 3:] * after[:, 3:]).sum(1, keepdims=True))
        poses = before * (1 - share) + np.hstack([after[:, :3], after[:, 3:] * same_side]) * share
        poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
        return poses

    def save(self, path: Path) -> None:
        """Write it as an npz file, lengths rounded to a quarter of a millimetre, which makes it small."""
        values = asdict(self)
        for name in ("links", "balls"):
            values[name] = np.round(values[name] * 4096).astype(np.float32) / 4096
        np.savez_compressed(path, **values)

    @staticmethod
    def load(path: Path) -> Recording:
        """Read a file that comes along."""
        with np.load(path) as file:
            scalars = {"build_key": str(file["build_key"]), "rate": float(file["rate"])}
            return Recording(**scalars, **{name: file[name] for name in file.files if name not in scalars})


def images_in(video: Path) -> Iterator[U8]:
    """The images (H, W, 3) of a video that comes along."""
    import av

    with av.open(str(video)) as container:
        for image in container.decode(video=0):
            yield np.asarray(image.to_ndarray(format="rgb24"), np.uint8)
