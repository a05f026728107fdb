"""Projects as RealityCapture, Metashape, Meshroom, OpenSfM and Bundler write them, of cameras without distortion."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.geometry import CV_FROM_GL, Camera, Pose
from tests.capture.writers.posed import WORLD, rendered
from tests.synthetic import Room

HEAD = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
Write = Callable[[Path, Room, list[Pose], Camera], None]


def images(folder: Path, room: Room, poses: Sequence[Pose], camera: Camera) -> tuple[list[str], list[Pose]]:
    """Write images; gives their names and the poses in a world of the program's own."""
    (folder / "images").mkdir(parents=True)
    names = [f"IMG_{number:04d}.jpg" for number in range(len(poses))]
    for name, pose in zip(names, poses, strict=True):
        cv2.imwrite(str(folder / "images" / name), rendered(room, camera, pose)[0][..., ::-1])
    return names, [WORLD @ pose for pose in poses]


def write_realitycapture(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """A table with angles of the camera in GL axes."""
    names, placed = images(folder, room, poses, camera)
    side, lines = max(camera.width, camera.height), ["#cameras 1", HEAD]
    px, py = (camera.cx - camera.width / 2) / side, (camera.cy - camera.height / 2) / side
    for name, pose in zip(names, placed, strict=True):
        angles = Rotation.from_matrix(pose.rotation @ CV_FROM_GL).as_euler("ZXY", degrees=True)
        heading, pitch, roll = -angles[0], angles[1], angles[2]
        numbers = [*pose.translation, heading, pitch, roll, camera.fx * 36 / side, px, py, *[0] * 6]
        lines.append(",".join([name, *map(repr, map(float, numbers))]))
    (folder / "cameras.csv").write_text("\n".join(lines))


def write_metashape(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """Labels without suffix, in a component's frame of another scale."""
    names, placed = images(folder, room, poses, camera)
    component = Pose(Rotation.from_euler("xyz", [0.3, -0.2, 0.9]).as_matrix(), np.array([3.0, -2.0, 1.5]))
    scale = 0.5
    shots = ""
    for number, (name, pose) in enumerate(zip(names, placed, strict=True)):
        inner = component.inverse() @ pose
        matrix = Pose(inner.rotation, inner.translation / scale).matrix
        text = " ".join(repr(float(value)) for value in matrix.ravel())
        shots += f'<camera id="{number}" sensor_id="0" component_id="0" label="{name[:-4]}">'
        shots += f"<transform>{text}</transform></camera>"
    cx, cy, b1 = camera.cx - camera.width / 2, camera.cy - camera.height / 2, camera.fx - camera.fy
    turn = " ".join(repr(float(value)) for value in component.rotation.ravel())
    move = " ".join(repr(float(value)) for value in component.translation)
    (folder / "cameras.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<document version="2.0.0">\n  <chunk label="Chunk 1" enabled="true">'
        f'<sensors next_id="1"><sensor id="0" label="unknown" type="frame"><resolution width="{camera.width}" '
        f'height="{camera.height}"/><calibration type="frame" class="initial"><f>1</f></calibration>'
        f'<calibration type="frame" class="adjusted"><resolution width="{camera.width}" height="{camera.height}"/>'
        f"<f>{camera.fy!r}</f><cx>{cx!r}</cx><cy>{cy!r}</cy><b1>{b1!r}</b1></calibration></sensor></sensors>"
        f'<components><component id="0"><transform><rotation>{turn}</rotation><translation>{move}</translation>'
        f"<scale>{scale}</scale></transform></component></components>"
        f'<cameras next_id="{len(names)}"><group id="0">{shots}</group>'
        f'<camera id="99" sensor_id="0" label="unaligned"/></cameras></chunk></document>'
    )


def write_meshroom(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """The current version: focal length in millimetres, principal point from the middle, numbers as text."""
    names, placed = images(folder, room, poses, camera)
    content = {
        "version": ["1", "2", "5"],
        "featuresFolders": [],
        "views": [
            {"viewId": str(i), "poseId": str(1000 + i), "intrinsicId": "7", "path": f"D:\\scan\\images\\{name}"}
            for i, name in enumerate(names)
        ],
        "intrinsics": [
            {
                "intrinsicId": "7",
                "width": str(camera.width),
                "height": str(camera.height),
                "sensorWidth": "23.5",
                "sensorHeight": "15.6",
                "type": "radial3",
                "focalLength": repr(camera.fx * 23.5 / camera.width),
                "pixelRatio": repr(camera.fy / camera.fx),
                "principalPoint": [repr(camera.cx - camera.width / 2), repr(camera.cy - camera.height / 2)],
                "distortionParams": ["0", "0", "0"],
            }
        ],
        "poses": [
            {
                "poseId": str(1000 + i),
                "pose": {
                    "transform": {
                        "rotation": [repr(float(v)) for v in pose.inverse().rotation.ravel(order="F")],
                        "center": [repr(float(v)) for v in pose.translation],
                    },
                    "locked": "0",
                },
            }
            for i, pose in enumerate(placed)
        ],
    }
    (folder / "cameras.sfm").write_text(json.dumps(content))


def write_opensfm(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """As ODM has it: a Brown camera, in opensfm/; a second, smaller reconstruction besides."""
    names, placed = images(folder, room, poses, camera)
    side = max(camera.width, camera.height)
    brown = {
        "projection_type": "brown",
        "width": camera.width,
        "height": camera.height,
        "focal_x": camera.fx / side,
        "focal_y": camera.fy / side,
        "c_x": (camera.cx - camera.width / 2) / side,
        "c_y": (camera.cy - camera.height / 2) / side,
    }
    brown |= dict.fromkeys(("k1", "k2", "k3", "p1", "p2"), 0.0)
    shots = {}
    for name, pose in zip(names, placed, strict=True):
        inverse = pose.inverse()
        turn = Rotation.from_matrix(inverse.rotation).as_rotvec()
        shots[name] = {"rotation": turn.tolist(), "translation": inverse.translation.tolist(), "camera": "v2 phone"}
    one = {"cameras": {"v2 phone": brown}, "shots": shots, "points": {}}
    (folder / "opensfm").mkdir()
    other = {"cameras": {}, "shots": {}, "points": {}}
    (folder / "opensfm/reconstruction.json").write_text(json.dumps([one, other]))


def write_bundler(folder: Path, room: Room, poses: list[Pose], camera: Camera) -> None:
    """GL axes; the principal point is in the middle, so `camera`'s isn't kept. A camera of zeros was not placed."""
    names, placed = images(folder, room, poses, camera)
    lines = ["# Bundle file v0.3", f"{len(names) + 1} 0"]
    for pose in placed:
        inverse = pose.inverse()
        rows = [[camera.fx, 0, 0], *(CV_FROM_GL @ inverse.rotation), CV_FROM_GL @ inverse.translation]
        lines += [" ".join(repr(float(value)) for value in row) for row in rows]
    lines += ["0 0 0"] * 5
    (folder / "bundle").mkdir()
    (folder / "bundle/bundle.out").write_text("\n".join(lines))
    (folder / "list.txt").write_text("\n".join([f"./images/{name} 0 500.5" for name in names] + ["./images/none.jpg"]))


PROGRAMS: dict[str, Write] = {
    "realitycapture": write_realitycapture,
    "metashape": write_metashape,
    "meshroom": write_meshroom,
    "opensfm": write_opensfm,
    "bundler": write_bundler,
}
