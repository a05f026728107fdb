"""How well gravity, scale and poses are known."""

from __future__ import annotations

from pipeline.check.gates import Measured
from pipeline.check.scene import CheckedScene


def frame_gates(scene: CheckedScene) -> dict[str, Measured]:
    """Gravity and scale."""
    alignment = scene.alignment
    how = f"relative one sigma, from {alignment.scale_source}"
    if alignment.scale_sigma is None:
        how = "scale: assumed - nothing in the capture gives it; add --known-length or --camera-height"
    elif alignment.scale_source == "priors":
        how += " of the usual sizes of rooms and objects; add --known-length"
    return {
        "gravity": Measured(
            alignment.gravity_sigma_deg,
            f"one sigma, from {alignment.gravity_source}",
            detail={"source": alignment.gravity_source},
        ),
        "scale": Measured(alignment.scale_sigma, how, detail={"source": alignment.scale_source}),
    }


def pose_gates(scene: CheckedScene) -> dict[str, Measured]:
    """Share of the keyframes that have a pose, and how well the map's points fit."""
    if scene.photos is None:
        return {}
    keyframes, registered = scene.photos.keyframes, len(scene.photos.scene.views)
    reprojection = scene.photos.scene.report.get("reprojection_error_px")
    return {
        "registered": Measured(registered / max(1, keyframes), f"{registered} of {keyframes} keyframes have a pose"),
        "reprojection": Measured(reprojection, "mean over the map's observations", applies=reprojection is not None),
    }
