"""Reader of Metashape's cameras as XML: poses in the frame of their component, and lenses.

Sources: Agisoft Metashape's manual, appendix "Camera models" (x right, y down, z forward; u = w/2 + cx + x' (f + b1) +
y' b2; its p1 and p2 are OpenCV's p2 and p1); the keys as nerfstudio's metashape_utils.py reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from xml.etree.ElementTree import Element

import numpy as np

from pipeline.capture.beside.programs import METASHAPE
from pipeline.capture.checks import checked_array, checked_pose
from pipeline.capture.frames import Size
from pipeline.capture.lens import Lens, brown_lens, checked_lens
from pipeline.capture.reconstructions.posed import PosedImage, Reconstruction, broken_poses, posed_reader
from pipeline.capture.source import CaptureSource
from pipeline.capture.texts import parse_xml
from pipeline.geometry import Pose
from pipeline.types import F64

_RADIAL, _TANGENTIAL = ("k1", "k2", "k3", "k4"), ("p2", "p1")


def _numbers(element: Element | None, count: int, file: str) -> F64 | None:
    """The numbers in an element's text, None where there is no such element or text."""
    if element is None or not element.text:
        return None
    values = checked_array(element.text.split(), f"<{element.tag}>", file)
    if values.size != count:
        raise ValueError(f"<{element.tag}> with {values.size} of {count} numbers")
    return values


def _number(parent: Element, key: str, file: str) -> float:
    values = _numbers(parent.find(key), 1, file)
    return 0.0 if values is None else float(values[0])


def _lens(sensor: Element, file: str) -> Callable[[Size], Lens]:
    """The lens of a sensor, by its adjusted calibration."""
    calibrations = {one.get("class", ""): one for one in sensor.findall("calibration")}
    calibration = calibrations.get("adjusted") or next(iter(calibrations.values()), None)
    resolution = sensor.find("resolution")
    if calibration is None or resolution is None or calibration.find("f") is None:
        raise ValueError(f"sensor {sensor.get('id')} without a resolution or an adjusted calibration with <f>")
    size = int(resolution.get("width", "0")), int(resolution.get("height", "0"))
    focal = _number(calibration, "f", file)
    pinhole = (
        focal + _number(calibration, "b1", file),
        focal,
        size[0] / 2 + _number(calibration, "cx", file),
        size[1] / 2 + _number(calibration, "cy", file),
    )
    radial = [_number(calibration, key, file) for key in _RADIAL]
    p1, p2 = (_number(calibration, key, file) for key in _TANGENTIAL)
    kind = calibration.get("type") or sensor.get("type")
    if kind not in ("frame", "fisheye") or (kind == "fisheye" and (p1 or p2)):
        raise ValueError(f"a sensor of type {kind!r}{' with tangential distortion' if kind == 'fisheye' else ''}")
    if kind == "fisheye":
        return lambda _any: checked_lens("OPENCV_FISHEYE", size, [*pinhole, *radial], file)
    return lambda _any: brown_lens(pinhole, size, radial, (p1, p2), file)


def _frame(component: Element | None, file: str) -> tuple[F64, F64, float]:
    """Rotation, translation and scale from a component's frame to the world."""
    transform = None if component is None else component.find("transform")
    if transform is None:
        return np.eye(3), np.zeros(3), 1.0
    rotation, translation = (_numbers(transform.find(k), n, file) for k, n in (("rotation", 9), ("translation", 3)))
    return (
        np.eye(3) if rotation is None else rotation.reshape(3, 3),
        np.zeros(3) if translation is None else translation,
        _number(transform, "scale", file) or 1.0,
    )


def _parse(source: CaptureSource, name: str) -> Reconstruction:
    file = source.where(name)
    chunk = parse_xml(source.read(name), file).find("chunk")
    images, unposed, skewed = [], [], False
    try:
        if chunk is None:
            raise ValueError("no <chunk>")
        sensors = {one.get("id"): one for one in chunk.findall("sensors/sensor")}
        components = {one.get("id"): one for one in chunk.findall("components/component")}
        lenses: dict[str | None, Callable[[Size], Lens]] = {}
        for camera in chunk.findall("cameras//camera"):
            label, key = camera.get("label", ""), camera.get("sensor_id")
            matrix = _numbers(camera.find("transform"), 16, file)
            if matrix is None:
                unposed.append(label)
                continue
            if key not in sensors:
                raise ValueError(f"camera {label!r:.60} of sensor {key}, which is not there")
            if key not in lenses:
                lenses[key] = _lens(sensors[key], file)
                skewed |= any(_number(one, "b2", file) != 0 for one in sensors[key].findall("calibration"))
            rotation, translation, scale = _frame(components.get(camera.get("component_id"), chunk), file)
            own = checked_pose(matrix.reshape(4, 4), f"{file}: {label}")
            turned = checked_pose(np.c_[rotation, translation], f"{file}: component")
            pose = Pose(turned.rotation @ own.rotation, scale * turned.rotation @ own.translation + translation)
            images.append(PosedImage(label, pose, lenses[key]))
    except ValueError as error:
        rule = "cameras need a sensor with a calibration, and transforms of 16 numbers"
        raise broken_poses(source, name, METASHAPE, rule, str(error)) from error
    notes = ["the lens's skew (b2) is left out"] if skewed else []
    return Reconstruction([name], images, unposed, notes)


READER = posed_reader(
    "metashape",
    METASHAPE,
    "cameras of Metashape (folder or zip): a *.xml of File, Export, Export Cameras, and the images",
    _parse,
    "poses, lens distortion",
)
