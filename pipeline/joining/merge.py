"""Captures that are placed in one frame as one canonical capture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.capture.model import Blurred, Capture, Credentialed, Frame
from pipeline.geometry import Pose


def joined_name(source: str, frame: str) -> str:
    """The name of a source's frame among those of all sources; files are called by it."""
    return f"{source}--{frame}"


def best_source(captures: Mapping[str, Capture]) -> str:
    """The source whose gravity, then whose scale is the surest; of equals the one of most frames."""

    def rank(name: str) -> tuple[float, float, int, str]:
        capture = captures[name]
        known = [s for s in (capture.up_sigma_deg, capture.gravity_sigma_deg) if s is not None]
        scale = float("inf") if capture.scale_sigma is None else capture.scale_sigma
        return min(known, default=float("inf")), scale, -len(capture.frames), name

    return min(captures, key=rank)


def merged(captures: Mapping[str, Capture], places: Mapping[str, Pose], best: str, root: Path) -> Capture:
    """One capture of all frames, in the world of the best source, with their files in `root`.

    Args:
        captures: By source.
        places: World of the best source from that of each source.
        best: Its gravity, scale and origin hold for all.
        root: Folder of the result, a folder for each source in it.
    """
    frames = []
    for name, capture in captures.items():
        for frame in capture.frames:
            bring_files(capture.root, frame, root / name)
            frames.append(of_source(name, frame, places[name]))
    every, known = [*captures.values()], captures[best]
    ranges = [capture.depth_range for capture in every if capture.depth_range is not None]
    return Capture(
        root=root,
        kind="+".join(dict.fromkeys(capture.kind for capture in every)),
        frames=tuple(frames),
        ordered=all(capture.ordered for capture in every),
        up_in_world=known.up_in_world,
        up_sigma_deg=known.up_sigma_deg,
        gravity_sigma_deg=max((c.gravity_sigma_deg for c in every if c.gravity_sigma_deg is not None), default=None),
        gravity_sources=tuple(dict.fromkeys(source for c in every for source in c.gravity_sources)),
        scale_sigma=known.scale_sigma,
        depth_range=min(ranges, default=None),
        on_machine=any(capture.on_machine for capture in every),
        world_origin=known.world_origin,
        location=known.location,
        skipped=tuple(replace(s, file=f"{name}/{s.file}") for name, c in captures.items() for s in c.skipped),
        notes=tuple(f"{name}: {note}" for name, c in captures.items() for note in c.notes),
        blurred=all_blurred(capture.blurred for capture in every),
        credentials=all_credentials(capture.credentials for capture in every),
        assumed=tuple(dict.fromkeys(clause for c in every for clause in c.assumed)),
    )


def of_source(source: str, frame: Frame, place: Pose) -> Frame:
    """A frame under its source's name; what satellites say is from another middle, and left out."""

    def inside(path: str | None) -> str | None:
        return path and f"{source}/{path}"

    rig = frame.in_rig
    return replace(
        frame,
        name=joined_name(source, frame.name),
        image=f"{source}/{frame.image}",
        world_from_camera=frame.world_from_camera and place @ frame.world_from_camera,
        depth=inside(frame.depth),
        confidence=inside(frame.confidence),
        mask=inside(frame.mask),
        gps=None,
        gps_sigma=None,
        sensor=f"{source} {frame.sensor}" if frame.sensor else source,
        in_rig=rig and replace(rig, rig=f"{source} {rig.rig}", shot=f"{source} {rig.shot}"),
    )


def bring_files(root: Path, frame: Frame, folder: Path) -> None:
    """A frame's files, without taking room where the disk can name a file twice: results are never changed."""
    for path in filter(None, (frame.image, frame.depth, frame.confidence, frame.mask)):
        target = folder / path
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        same_file(root / path, target)


def same_file(source: Path, target: Path) -> None:
    """A result's file in another result, without taking room where the disk can name a file twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def all_blurred(parts: Iterable[Blurred | None]) -> Blurred | None:
    """What was blurred in several captures."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    faces = [part.faces for part in known if part.faces is not None]
    plates = [part.plates for part in known if part.plates is not None]
    detectors = tuple(dict.fromkeys(name for part in known for name in part.detectors))
    images = sum(part.images for part in known)
    return Blurred(sum(faces) if faces else None, sum(plates) if plates else None, images, detectors)


def all_credentials(parts: Iterable[Credentialed | None]) -> Credentialed | None:
    """What the files of several captures state."""
    known = [part for part in parts if part is not None]
    return Credentialed(sum(p.signed for p in known), sum(p.generated for p in known)) if known else None
