"""The report of the poses stage: its structure, and the main facts in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict


class DepthReport(TypedDict):
    """What the depth images say of the given poses: how they contradict them, or their scale, jumps and sigmas."""

    contradiction: str
    scale: float
    jumps: int
    given_sigma_m: float
    given_sigma_deg: float


class BackendReport(TypedDict, total=False):
    """The backend's part; every backend gives some of the keys. See `backends` for nested values."""

    path: str
    matches_explained: float
    by_depth: DepthReport | None
    epipolar_error_given_px: float | None
    epipolar_error_offset_px: float | None
    moved: dict[str, float]
    moved_beyond_offset: dict[str, float]
    sensor_from_camera: dict[str, float | list[float]]
    loops: dict[str, int | float | None]
    submodels: list[int]
    joined: int
    left_out: list[list[str]]
    weights: str
    licence: str
    chunks: dict[str, int]
    not_finite: list[str]
    kept_network_poses: list[str]


class FocalCorrection(TypedDict):
    """A camera whose focal length was another than EXIF or a guess says, by the matches of its images [px]."""

    camera: str | None
    images: int
    source: str
    declared_px: float
    found_px: float


class PosesReport(BackendReport):
    """The whole report. Errors are in pixels of the working images."""

    backend: str
    mapper: str
    pairs_matched: int
    keyframes: int
    registered: int
    registered_share: float
    held_out: int
    held_out_registered: int
    unregistered: dict[str, str]
    kept_sensor_poses: list[str]
    points: int
    observations: int
    reprojection_error_px: float | None
    held_out_reprojection_error_px: float | None
    cameras: dict[str, dict[str, object]]
    calibration: dict[str, object] | None
    dynamic_masks: dict[str, object] | None
    focal_lengths_corrected: list[FocalCorrection]
    temporal_consistency: dict[str, object] | None
    notes: list[str]


def notes(report: PosesReport) -> Iterator[str]:
    """The main facts in sentences, for the log and for `splatyard bundle inspect`."""
    yield f"{report['registered']} of {report['keyframes']} keyframes have poses"
    for one in report["focal_lengths_corrected"]:
        source = "EXIF" if one["source"] == "exif" else "a guess"
        yield (
            f"the focal length of {_count(one['images'], 'image')} is {one['found_px']:.0f} px by their matches, not "
            f"{one['declared_px']:.0f} as {source} says: they were resized, cropped or zoomed"
        )
    if by_depth := report.get("by_depth"):
        yield from _by_depth(by_depth)
    if moved := report.get("moved"):
        yield (
            f"the given poses moved by {moved['position_median_m']:.3f} m and {moved['rotation_median_deg']:.2f} "
            f"degrees (median), by {moved['position_max_m']:.3f} m and {moved['rotation_max_deg']:.2f} degrees at most"
        )
    if loops := report.get("loops"):
        if loops["pairs"]:
            yield (
                f"{_count(loops['pairs'], 'loop closure')}: the sensor had drifted {loops['drift_median_m']:.3f} m and "
                f"{loops['drift_median_deg']:.2f} degrees (median), {loops['drift_max_m']:.3f} m and "
                f"{loops['drift_max_deg']:.2f} degrees at most"
            )
        if loops["contradicting_pairs"]:
            pairs = _count(loops["contradicting_pairs"], "pair")
            yield f"dropped, because the given poses contradict them: matches of {pairs}"
        if loops["jumps"]:
            yield f"the given poses have {_count(loops['jumps'], 'jump')}"
    if kept := report["kept_sensor_poses"]:
        yield f"sensor poses kept, because the images show almost nothing: {_count(len(kept), 'keyframe')}"
    if chunks := report.get("chunks"):
        yield f"{_count(chunks['runs'], 'run')} of {report['backend']}, {_count(chunks['loops'], 'loop')} closed"
        if chunks["memory_halved"]:
            yield f"the GPU's memory held {chunks['images_at_once']} images at once, fewer than estimated"
    if failed := report.get("not_finite"):
        yield f"{report['backend']} gave nothing finite for {_count(len(failed), 'keyframe')}"
    if kept := report.get("kept_network_poses"):
        yield f"poses of {report['backend']} kept, because almost nothing matches: {_count(len(kept), 'keyframe')}"
    if report.get("joined", 1) > 1:
        yield f"{report.get('joined')} sub-models were joined"
    if left_out := report.get("left_out"):
        sizes = ", ".join(str(len(names)) for names in left_out)
        yield f"{1 + len(left_out)} sub-models don't fit together; those of {sizes} images were left out"


def _by_depth(found: DepthReport) -> Iterator[str]:
    if found["contradiction"]:
        yield found["contradiction"]
        return
    sigma = f"{100 * found['given_sigma_m']:.1f} cm and {found['given_sigma_deg']:.2f} degrees"
    yield f"the given poses were corrected by the depth images: they have a sigma of {sigma} per axis"
    if found["scale"] != 1:
        yield f"the given positions were multiplied by {found['scale']:.3f}, as the depth images say"
    if found["jumps"]:
        yield f"the given poses have {_count(found['jumps'], 'jump')}, by the depth images"


def _count(number: float | None, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
