"""The alignment: the world frame from the reconstruction's own frame, and its uncertainty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.geometry import Similarity
from pipeline.poses.scene import PosedScene

ALIGNMENT_FILE = "alignment.json"


@dataclass(frozen=True, eq=False)
class Alignment:
    """The world frame (Z up, metres, origin on the floor) from the frame of the poses stage.

    Attributes:
        world_from_scene: Similarity for everything that the poses and depth stages wrote.
        gravity_sources: Sources of gravity: accelerometer, panoramas, gimbal, the capture's kind, surfaces, lines,
            cameras.
        gravity_sigma_deg: One sigma of gravity [deg].
        scale_source: Source of the scale, see `scale.ScaleSource`; for imports what the source states.
        scale_sigma: Relative one sigma of the scale; None when it is assumed.
        floor_found: Whether a floor was found; without one z = 0 is a guess below the cameras.
        report: JSON values for the manifest: all estimates and how far they disagree.
    """

    world_from_scene: Similarity
    gravity_sources: tuple[str, ...]
    gravity_sigma_deg: float
    scale_source: str
    scale_sigma: float | None
    floor_found: bool
    report: dict[str, object]

    @property
    def gravity_source(self) -> str:
        """All sources of gravity in one text, such as "accelerometer+surfaces"."""
        return "+".join(self.gravity_sources)

    def save(self, folder: Path) -> None:
        """Write `alignment.json`."""
        content = {
            "world_from_scene": self.world_from_scene.to_json(),
            "gravity": {"sources": self.gravity_sources, "sigma_deg": self.gravity_sigma_deg},
            "scale": {"source": self.scale_source, "sigma": self.scale_sigma},
            "floor_found": self.floor_found,
            "report": self.report,
        }
        (folder / ALIGNMENT_FILE).write_text(json.dumps(content, indent=1))

    @staticmethod
    def load(folder: Path) -> Alignment:
        """Read what `save` wrote."""
        content = json.loads((folder / ALIGNMENT_FILE).read_text())
        return Alignment(
            Similarity.from_json(content["world_from_scene"]),
            tuple(content["gravity"]["sources"]),
            content["gravity"]["sigma_deg"],
            content["scale"]["source"],
            content["scale"]["sigma"],
            content["floor_found"],
            content["report"],
        )


def load_world_scene(poses_folder: Path, align_folder: Path) -> PosedScene:
    """The posed scene in the world frame."""
    return PosedScene.load(poses_folder).transformed(Alignment.load(align_folder).world_from_scene)
