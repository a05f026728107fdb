"""Captures with sensors: a reader lists what each frame has; here it is thinned, decoded, checked and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.capture.checks import check_increasing, check_one_camera, check_track
from pipeline.capture.depth_images import confidence_of_png, depth_of_npy, depth_of_png, save_confidence, save_depth
from pipeline.capture.depth_units import check_depth_unit
from pipeline.capture.images import DecodedImage, guessed_camera, image_mask, load_image, note_on_shrinking, save_mask
from pipeline.capture.lens import Lens, camera_of, pinhole_of, source_pixels, undistorted_depth
from pipeline.capture.model import Capture, FocalSource, Frame, Origin, Size, Skipped
from pipeline.capture.params import CaptureParams
from pipeline.capture.reader import Reader, Sensors, in_threads, split_results, suffix_of
from pipeline.capture.source import CaptureSource
from pipeline.constants import DECLARED
from pipeline.errors import CaptureError
from pipeline.geometry import Camera, Pose
from pipeline.geometry.conventions import convention_names, convert
from pipeline.io.image_files import BadImageError
from pipeline.parameters import require_known
from pipeline.types import F64, U8, U16, Mask

SAME_SHAPE = 0.03
"""Largest relative difference in width by height between depth and the image that it shows: sizes are rounded."""
FAR, FAR_EXTENTS = 100.0, 10.0
"""Distance of the cameras' middle from their world's origin beyond which the world is centred, in the poses' unit and
in extents of the camera path: more loses digits, and a walk that begins at its origin stays as it is."""
SAME_ASPECT = 0.01
"""Likewise between an image and the intrinsics that are scaled to it: neither may be cropped or rotated."""


@dataclass(frozen=True, eq=False)
class ListedFrame:
    """A frame as its source lists it; pixels are read when their function is called.

    Attributes:
        key: Stem of its files in the canonical capture, unique.
        name: Name of the image at the source, unique.
        image: Decodes the image; raises `BadImageError`.
        camera: Intrinsics of an image of some (width, height), guessed by default; raises `CaptureError` where they do
            not fit.
        time: Time [s], increasing from frame to frame; `source_time` is by the source's own clock.
        world_from_camera: Pose in CV axes [m].
        depth: Decodes depth (H, W) uint16 [mm], 0 = unknown; raises `BadImageError`.
        depth_name: Name of the depth image at the source, for messages.
        depth_camera: Intrinsics of a depth image of some (width, height); None where it shows what the image shows.
        confidence: Decodes confidence (H, W) uint8, 0 worst, 255 best.
        gravity: (3,) unit direction in CV camera axes.
        mask: Reads the content of the mask file.
        border: Width of a border without content that is cut off image and mask [px]; `camera` is that of the whole.
        sensor: Name of the rig's camera; None where one camera is read. Keys and names are unique for each.
    """

    key: str
    name: str
    image: Callable[[], DecodedImage]
    camera: Callable[[Size], Camera] = guessed_camera
    time: float | None = None
    source_time: float | None = None
    world_from_camera: Pose | None = None
    depth: Callable[[], U16] | None = None
    depth_name: str = ""
    depth_camera: Callable[[Size], Camera] | None = None
    confidence: Callable[[], U8] | None = None
    gravity: F64 | None = None
    mask: Callable[[], bytes] | None = None
    border: int = 0
    focal_source: FocalSource = "given"
    sensor: str | None = None


class FrameFiles:
    """Images of a source, with masks by image for those that have one, and its depth images, decoded when called.

    Depth is in `units_per_metre`, by default in millimetres.
    """

    def __init__(self, source: CaptureSource, masks: Mapping[str, str], units_per_metre: float | None = None) -> None:
        self._source, self._masks, self._units_per_metre = source, masks, units_per_metre

    def frame(self, key: str, image: str, time: float | None = None, depth: str | None = None) -> ListedFrame:
        """An image as it is stored, with its mask and, if it is named, its depth; `time` [s] is the source's."""
        return ListedFrame(
            key,
            image,
            image=lambda: load_image(self._source.read(image), upright=False),  # intrinsics are of the stored pixels
            time=time,
            source_time=time,
            depth=self.depth(depth) if depth else None,
            depth_name=depth or "",
            mask=self.mask(image),
        )

    def mask(self, image: str) -> Callable[[], bytes] | None:
        """The mask file of an image, None where it has none."""
        return partial(self._source.read, self._masks[image]) if image in self._masks else None

    def depth(self, name: str | None) -> Callable[[], U16]:
        """A depth image in a 16-bit PNG or a NumPy file; a frame without one is skipped."""

        def read() -> U16:
            if name is None:
                raise BadImageError("no depth for it")
            data, file = self._source.read(name), self._source.where(name)
            if suffix_of(name) == ".npy":
                return depth_of_npy(data, file, self._units_per_metre)
            return depth_of_png(data, file, self._units_per_metre or 1000.0)

        return read

    def confidence(self, name: str, levels: tuple[int, ...] = ()) -> Callable[[], U8]:
        """A confidence image in an 8-bit PNG, whose values from worst to best are `levels` if there are any."""
        return lambda: confidence_of_png(self._source.read(name), self._source.where(name), levels)


def declared_camera(camera: Camera, file: str) -> Callable[[Size], Camera]:
    """Gives `camera` for images of its own size; any other size is refused, naming `file`."""

    def checked(size: Size) -> Camera:
        if size != (camera.width, camera.height):
            raise CaptureError(
                "an image must have the size that its camera file declares",
                found=f"{size[0]} x {size[1]}, declared {camera.width} x {camera.height}",
                remedy="use the images as exported, neither resized nor rotated",
                file=file,
            )
        return camera

    return checked


def scaled_camera(camera: Camera, file: str, what: str = "image") -> Callable[[Size], Camera]:
    """Gives `camera` scaled to another size; a size of another shape is refused, naming `file` and `what` it is."""

    def scaled(size: Size) -> Camera:
        if abs(size[0] * camera.height / (size[1] * camera.width) - 1) > SAME_ASPECT:
            raise CaptureError(
                f"the {what} must show what its intrinsics are for, {camera.width} x {camera.height} or scaled",
                found=f"{size[0]} x {size[1]}",
                remedy="use the recording as the app exported it, neither cropped nor rotated",
                file=file,
            )
        return camera if size == (camera.width, camera.height) else camera.resized(*size)

    return scaled


def through_lens(frame: ListedFrame, lens: Lens, file: str) -> ListedFrame:
    """A frame that was taken through a lens, undistorted where it has to be; `frame.camera` is replaced.

    An image is resampled only where the canonical camera can't hold the lens; depth, which shows what the image shows,
    wherever the lens has distortion, for depth images have none.

    Raises:
        CaptureError: When the lens has to be undistorted and can't be.
    """
    frame = replace(frame, camera=declared_camera(camera_of(lens, file), file))
    if lens.is_pinhole:
        return frame
    pinhole, depth = pinhole_of(lens, file), frame.depth
    if depth is not None:
        frame = replace(
            frame,
            depth=lambda: undistorted_depth(depth(), lens, pinhole),
            depth_camera=lambda size: pinhole.resized(*size),
        )
    if lens.canonical:
        return frame

    def image() -> DecodedImage:
        stored = frame.image()
        frame.camera(stored.size)  # refuses any size but the lens's
        return undistorted_image(stored, frame.mask() if frame.mask else None, lens, pinhole)

    return replace(frame, image=image, mask=None)


def undistorted_image(decoded: DecodedImage, mask: bytes | None, lens: Lens, pinhole: Camera) -> DecodedImage:
    """The image that the pinhole camera would have taken; its alpha says which pixels count, by mask and alpha.

    Raises:
        BadImageError: When the mask does not fit.
    """
    width, height = decoded.image.size
    pixels = source_pixels(lens, pinhole.resized(width, height))
    x = pixels[..., 0] * np.float32(width / lens.width) - np.float32(0.5)
    y = pixels[..., 1] * np.float32(height / lens.height) - np.float32(0.5)
    kept = image_mask(decoded, mask)
    if kept is not None:  # the cubic kernel reaches two pixels far
        near = cv2.erode(kept.astype(np.uint8), np.ones((5, 5), np.uint8))
        kept = cv2.remap(near, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE) > 0
    colors = cv2.remap(np.asarray(decoded.image), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return replace(decoded, image=Image.fromarray(np.asarray(colors, np.uint8)), copy=None, alpha=kept)


def with_poses(
    frames: Sequence[ListedFrame], poses: Sequence[Pose | None], reason: str
) -> tuple[list[ListedFrame], list[Skipped]]:
    """Frames with their poses (world from camera), and those without one as skipped for that reason."""
    pairs = list(zip(frames, poses, strict=True))
    posed = [replace(frame, world_from_camera=pose) for frame, pose in pairs if pose is not None]
    return posed, [Skipped(frame.name, reason) for frame, pose in pairs if pose is None]


def thinned(frames: Sequence[ListedFrame], params: CaptureParams) -> list[ListedFrame]:
    """Frames in the requested time range, every `stride`-th of each camera.

    Raises:
        ValueError: When a time range is requested and the frames have no times.
    """
    chosen = list(frames)
    if params.start > 0 or params.end is not None:
        timed = [(frame.time, frame) for frame in chosen if frame.time is not None]
        if len(timed) < len(chosen):
            raise ValueError("capture.start and capture.end need a capture with times; this one has none")
        first = min((time for time, _ in timed), default=0.0)
        end = np.inf if params.end is None else params.end
        chosen = [frame for time, frame in timed if params.start <= time - first <= end]
    sensors = dict.fromkeys(frame.sensor for frame in chosen)
    return [frame for key in sensors for frame in [f for f in chosen if f.sensor == key][:: params.stride]]


def sensor_capture(
    reader: Reader,
    listed: Iterable[ListedFrame],
    source: CaptureSource,
    out_dir: Path,
    params: CaptureParams,
    *,
    sensors: Sensors | None = None,
    metric: bool = True,
    up_in_world: F64 | None = None,
    up_sigma_deg: float | None = None,
    gravity_sigma_deg: float | None = None,
    skipped: Sequence[Skipped] = (),
    notes: Sequence[str] = (),
    one_camera: bool = True,
    source_scale: float = 1.0,
) -> Capture:
    """Read the frames of a recording and check them together.

    Frames come in the order of time, camera by camera and already thinned; they are taken a few at a time, so that a
    video is decoded as it goes. `sensors` replaces what is known of the format's, `metric` says whether this capture's
    poses or depth have their scale, `one_camera` whether each sensor is one camera or any mix of them, `source_scale`
    how many of the source's units one of the poses' is; what is named as in `Capture` goes there.

    Here, for all readers, poses of another convention are converted, and worlds far from their origin are centred.

    Raises:
        CaptureError: When too much is unreadable, time runs backwards, devices are mixed, the camera does not move, or
            depth and poses contradict each other.
    """
    convention = _known_convention(params, source)
    results = in_threads(lambda frame: _written(frame, source, out_dir), listed, f"reading {reader.kind} frames")
    frames, bad = split_results(results, source, params)
    frames = _by_camera(frames, source, one_camera=one_camera)
    if convention != DECLARED:
        frames = tuple(_converted(frame, convention) for frame in frames)
        notes = (*notes, f"poses are taken as {convention} (capture.pose_convention)")
    frames, origin = _centred(frames, source_scale)
    if origin and any(origin.position):
        at = ", ".join(f"{value:.10g}" for value in origin.position)
        notes = (*notes, f"the poses' world is centred: its origin lies at {at} in the source's")
    if any(frame.world_from_camera for frame in frames):
        check_track(frames, params.min_track, source.folder)
    known = sensors or reader.sensors
    capture = Capture(
        root=out_dir,
        kind=reader.kind,
        frames=frames,
        ordered=True,
        up_in_world=up_in_world,
        up_sigma_deg=None if up_in_world is None else up_sigma_deg or known.up_sigma_deg,
        gravity_sigma_deg=gravity_sigma_deg,
        scale_sigma=known.scale_sigma if metric else None,
        depth_range=known.depth_range if any(frame.depth for frame in frames) else None,
        on_machine=known.on_machine,
        world_origin=origin,
        skipped=(*skipped, *bad),
    )
    unit = (check_depth_unit(capture, source.folder),) if capture.has_depth and capture.has_poses else ()
    return replace(capture, notes=(*notes, *unit, *note_on_shrinking(frames)))


def _known_convention(params: CaptureParams, source: CaptureSource) -> str:
    where = "capture.pose_convention"
    rule = f"{where} is what the poses are, and their axes, by a name that the error of wrong poses gives"
    require_known(params.pose_convention, convention_names(), where, CaptureError, source.folder, rule=rule)
    return params.pose_convention


def _converted(frame: Frame, convention: str) -> Frame:
    pose = frame.world_from_camera
    return frame if pose is None else replace(frame, world_from_camera=convert(pose, convention))


def _by_camera(frames: Sequence[Frame], source: CaptureSource, *, one_camera: bool) -> tuple[Frame, ...]:
    """Frames camera by camera, those of each checked, at times since the first of all."""
    cameras = list(dict.fromkeys(frame.sensor for frame in frames))
    frames = sorted(frames, key=lambda frame: cameras.index(frame.sensor))
    for camera in cameras:
        own = [frame for frame in frames if frame.sensor == camera]
        clocks = [(frame.source_time if frame.time is None else frame.time, frame.name) for frame in own]
        clocked = [(at, f"{source.folder} ({name})") for at, name in clocks if at is not None]
        check_increasing([at for at, _ in clocked], [file for _, file in clocked])
        if one_camera:
            check_one_camera(own, source.folder)
    first = min((frame.time for frame in frames if frame.time is not None), default=0.0)
    return tuple(frame if frame.time is None else replace(frame, time=frame.time - first) for frame in frames)


def _centred(frames: tuple[Frame, ...], scale: float) -> tuple[tuple[Frame, ...], Origin | None]:
    """Frames whose world's origin is near their cameras, and where that is in the source's world; None without poses.

    It is zero but for worlds whose origin is far away, as seen from a capture of that size; whole numbers keep digits.
    """
    positions = np.array([frame.world_from_camera.translation for frame in frames if frame.world_from_camera])
    if not len(positions):
        return frames, None
    middle = np.median(positions, axis=0)
    if np.linalg.norm(middle) <= max(FAR, FAR_EXTENTS * float(np.linalg.norm(np.ptp(positions, axis=0)))):
        return frames, Origin(scale=scale)
    centre = np.round(middle)
    x, y, z = (float(value) for value in centre * scale)
    return tuple(
        replace(frame, world_from_camera=pose and Pose(pose.rotation, pose.translation - centre))
        for frame in frames
        for pose in [frame.world_from_camera]
    ), Origin((x, y, z), scale)


def _written(frame: ListedFrame, source: CaptureSource, out_dir: Path) -> Frame | Skipped:
    prefix = f"{frame.sensor}_" if frame.sensor else ""
    key = prefix + frame.key
    try:
        image = frame.image().shrunk()
        mask = image_mask(image, frame.mask() if frame.mask else None)
    except BadImageError as error:
        return Skipped(frame.name, str(error), error.remedy)
    whole = frame.camera(image.size)
    border = ceil(frame.border * image.image.width / whole.width)
    image, mask, camera = _without_border(image, mask, whole.resized(*image.image.size), border)
    depth_camera = confidence_path = None
    if frame.depth is not None:
        try:
            depth = frame.depth()
            confidence = frame.confidence() if frame.confidence else None
        except BadImageError as error:
            return Skipped(frame.depth_name, str(error), error.remedy)
        size = (depth.shape[1], depth.shape[0])
        if frame.depth_camera is None and abs(size[0] * image.size[1] / (size[1] * image.size[0]) - 1) > SAME_SHAPE:
            raise CaptureError(
                "depth without intrinsics of its own must have its image's shape",
                found=f"depth of {size[0]} x {size[1]}, an image of {image.size[0]} x {image.size[1]}",
                remedy="export depth that is registered to the images, or give the depth camera's intrinsics",
                file=source.where(frame.depth_name),
            )
        depth_camera = frame.depth_camera(size) if frame.depth_camera else whole.resized(*size)
        save_depth(depth, out_dir / "depth" / f"{key}.png")
        if confidence is not None:
            confidence_path = f"confidence/{key}.png"
            save_confidence(confidence, depth.shape, source.where(frame.depth_name), out_dir / confidence_path)
    (out_dir / "images").mkdir(parents=True, exist_ok=True)
    return Frame(
        name=prefix + frame.name.rpartition("/")[2],
        image=f"images/{image.save(out_dir / 'images' / key).name}",
        camera=camera,
        focal_source=frame.focal_source,
        time=frame.time,
        source_time=frame.source_time,
        world_from_camera=frame.world_from_camera,
        depth=f"depth/{key}.png" if frame.depth is not None else None,
        depth_camera=depth_camera,
        confidence=confidence_path,
        gravity=frame.gravity,
        mask=None if mask is None else save_mask(mask, out_dir, key),
        source_size=image.whole and (whole.width - 2 * frame.border, whole.height - 2 * frame.border),
        sensor=frame.sensor,
    )


def _without_border(
    image: DecodedImage, mask: Mask | None, camera: Camera, border: int
) -> tuple[DecodedImage, Mask | None, Camera]:
    if border == 0:
        return image, mask, camera
    right, bottom = camera.width - border, camera.height - border
    inner = replace(camera, width=right - border, height=bottom - border, cx=camera.cx - border, cy=camera.cy - border)
    cut = replace(image, image=image.image.crop((border, border, right, bottom)), copy=None)
    return cut, None if mask is None else mask[border:bottom, border:right], inner
