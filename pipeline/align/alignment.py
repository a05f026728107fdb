"""The alignment: how the reconstruction's own frame lies in the world, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.geometry import Similarity
from pipeline.poses.scene import PosedScene

ALIGNMENT_FILE = "alignment.json"


@dataclass(frozen=True, eq=False)
class Alignment:
    """The world frame (Z up, metres, origin on the floor) from the frame of the poses stage.

    Attributes:
        world_from_scene: Apply to everything the poses and depth stages wrote.
        gravity_source: What gave gravity: accelerometer, a reader, surfaces, lines, cameras, or several of them.
        gravity_sigma_deg: One sigma [deg].
        scale_source: What gave the scale: sensor, fiducials, known_length, sheet, camera_height, hints, assumed.
        scale_sigma: Relative one sigma; None when the scale is assumed.
        floor_found: Whether a floor plane was seen; without one z = 0 lies below the cameras by a guess.
        report: Plain JSON values for the manifest: all estimates and how far they disagree.
    """

    world_from_scene: Similarity
    gravity_source: str
    gravity_sigma_deg: float
    scale_source: str
    scale_sigma: float | None
    floor_found: bool
    report: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write `alignment.json`."""
        content = {
            "world_from_scene": {
                "scale": self.world_from_scene.scale,
                "rotation": self.world_from_scene.rotation.tolist(),
                "translation": self.world_from_scene.translation.tolist(),
            },
            "gravity": {"source": self.gravity_source, "sigma_deg": self.gravity_sigma_deg},
            "scale": {"source": self.scale_source, "sigma": self.scale_sigma},
            "floor_found": self.floor_found,
            "report": self.report,
        }
        (folder / ALIGNMENT_FILE).write_text(json.dumps(content, indent=1))

    @staticmethod
    def load(folder: Path) -> Alignment:
        """Read what `save` wrote."""
        content = json.loads((folder / ALIGNMENT_FILE).read_text())
        similarity = content["world_from_scene"]
        return Alignment(
            Similarity(similarity["scale"], np.array(similarity["rotation"]), np.array(similarity["translation"])),
            content["gravity"]["source"],
            content["gravity"]["sigma_deg"],
            content["scale"]["source"],
            content["scale"]["sigma"],
            content["floor_found"],
            content["report"],
        )


def load_world_scene(poses_folder: Path, align_folder: Path) -> PosedScene:
    """The posed scene in the world frame."""
    return PosedScene.load(poses_folder).transformed(Alignment.load(align_folder).world_from_scene)
