"""Which topic of a ROS bag is the camera, its depth and intrinsics, the IMU and the odometry: given, or guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import PurePosixPath

from pipeline.capture.bags.messages import DEPTH_ENCODINGS, is_image
from pipeline.capture.checks import chosen_cameras
from pipeline.errors import CaptureError

IMAGES, INFO, CLOUD, IMU = ("Image", "CompressedImage"), "CameraInfo", "PointCloud2", "Imu"
POSES = ("Odometry", "TransformStamped")
TRANSFORMS = ("TFMessage", "tfMessage")
READ = (*IMAGES, INFO, CLOUD, IMU, *POSES, *TRANSFORMS)
"""Types of messages that are read at all, without their packages."""
PACKAGES = ("sensor_msgs", "nav_msgs", "geometry_msgs", "tf2_msgs", "tf")
"""Where those types are defined; others' types of the same names are something else."""
ROLES = ("camera", "camera_info", "depth", "depth_info", "cloud", "imu", "odometry")
"""Roles that topics can be given for; "none" leaves a role empty, "tf" as odometry takes the poses of tf."""
OF_CAMERA = ("camera_info", "depth", "depth_info")
"""Roles that each camera has a topic of its own for."""
NONE, TF = "none", "tf"

_TYPES = {
    "camera": IMAGES, "depth": IMAGES, "camera_info": (INFO,), "depth_info": (INFO,),
    "cloud": (CLOUD,), "imu": (IMU,), "odometry": POSES,
}  # fmt: skip
_NO_IMAGE = re.compile(
    r"depth|disparity|confidence|normal|semantic|segment|mask|label|heat|thermal|infra|intensity|flow|debug|overlay|detect"
)
_NO_SCAN = re.compile(r"map|global|grid|voxel|corner|surf|feature|keyframe|marker")
_SLAM = re.compile(r"slam|lio\b|lio_|dlio|vio|loam|map|world|vicon|mocap|optitrack|ground_?truth|camera_init|rtab")
_WEAK = re.compile(r"wheel|command|cmd|target|goal|planner|gps|gnss|prior|twist")


@dataclass(frozen=True)
class Topic:
    """A topic, as its first message shows it.

    Attributes:
        type: Type of its messages without the package: Image, CameraInfo, Odometry.
        frame: The header's frame, or "".
        encoding: Encoding of images; the format of compressed ones.
        child: Frame that moves, of poses.
    """

    name: str
    type: str
    count: int
    frame: str = ""
    encoding: str = ""
    child: str = ""

    @property
    def base(self) -> str:
        """The name without the suffix of its transport, "/compressed"."""
        return re.sub(r"/(compressed|compressedDepth|theora|ffmpeg)$", "", self.name)


@dataclass(frozen=True)
class TopicChoice:
    """Topics by role for one camera; None where the bag has none, or where the role was left empty.

    `odometry` lists all candidates; `use_tf` says whether poses may come from tf.
    """

    camera: Topic
    camera_info: Topic | None
    depth: Topic | None
    depth_info: Topic | None
    cloud: Topic | None
    imu: Topic | None
    odometry: tuple[Topic, ...]
    use_tf: bool = True

    @property
    def note(self) -> str:
        """Topics by role, for people."""
        named = [("camera", self.camera), ("its intrinsics", self.camera_info), ("depth", self.depth)]
        named += [("the depth's intrinsics", self.depth_info), ("LiDAR", self.cloud), ("IMU", self.imu)]
        taken = ", ".join(f"{role} {topic.name}" for role, topic in named if topic)
        return f"topics: {taken}"


def cameras_of(topics: Sequence[Topic], file: str) -> list[Topic]:
    """The cameras of a bag, the best first, each in its best form (raw and compressed, rectified or not, are one).

    Raises:
        CaptureError: When no topic holds images.
    """
    cameras: dict[str, Topic] = {}
    for topic in _ranked_cameras(topics, file):
        info = _info_of(topic, [other for other in topics if other != topic])
        cameras.setdefault(info.name if info else topic.base, topic)
    return list(cameras.values())


def choose_topics(
    topics: Sequence[Topic], given: Mapping[str, str], file: str, cameras: str = "first"
) -> list[TopicChoice]:
    """Topics for all roles, for each camera that is read.

    Roles (`ROLES`) that are not given are guessed from types, names and encodings. The given "camera" may list several
    with commas between them, the roles of a camera then as many; without it `CaptureParams.cameras` counts.

    Raises:
        CaptureError: When a given topic does not exist or has another type, or no topic holds images.
    """
    if "camera" in given:
        chosen = [name.strip() for name in given["camera"].split(",")]
    else:
        known = cameras_of(topics, file) if cameras in ("first", "all") else _ranked_cameras(topics, file)
        chosen = chosen_cameras([topic.name for topic in known], cameras, file)
    choices = []
    for i, camera in enumerate(chosen):
        own = {role: _one_of(names, role, i, len(chosen), file) for role, names in given.items()}
        choices.append(_choose(topics, {**own, "camera": camera}, chosen, file))
    return choices


def _one_of(names: str, role: str, number: int, count: int, file: str) -> str:
    parts = [name.strip() for name in names.split(",")]
    if role not in OF_CAMERA or count == 1:
        return names
    if len(parts) != count:
        rule = f"with {count} cameras the topics for {role} must be {count}, with commas between them"
        raise _wrong_topic(f"{rule}, {NONE} where a camera has none", names, file)
    return parts[number]


def _wrong_topic(rule: str, found: str, file: str) -> CaptureError:
    return CaptureError(rule, found=found, remedy="correct capture.topics in the card", file=file)


def _choose(topics: Sequence[Topic], given: Mapping[str, str], cameras: Sequence[str], file: str) -> TopicChoice:
    fixed = {role: _given(topics, role, name, file) for role, name in given.items()}
    camera = fixed["camera"]
    assert camera is not None
    others = [topic for topic in topics if topic.name not in cameras]
    depth = fixed["depth"] if "depth" in fixed else _depth_of(camera, others)
    clouds = [topic for topic in others if topic.type == CLOUD and not _NO_SCAN.search(topic.name.lower())]
    imus = [topic for topic in others if topic.type == IMU]
    poses = [topic for topic in others if topic.type in POSES and topic.child]
    if "odometry" in fixed:
        poses = [fixed["odometry"]] if fixed["odometry"] else []
    return TopicChoice(
        camera,
        fixed["camera_info"] if "camera_info" in fixed else _info_of(camera, others),
        depth,
        fixed["depth_info"] if "depth_info" in fixed else _info_of(depth, others),
        fixed["cloud"] if "cloud" in fixed else _first(clouds, r"undist|deskew"),
        fixed["imu"] if "imu" in fixed else _first(imus, r"/imu(/data)?$|camera|imu"),
        tuple(sorted(poses, key=lambda topic: (-odometry_rank(topic), -topic.count, topic.name))),
        given.get("odometry", TF) == TF,
    )


def odometry_rank(topic: Topic) -> int:
    """Rank of the poses of an odometry topic: 3 from SLAM, 1 some odometry, -1 wheels and the like."""
    text = f"{topic.name} {topic.frame}".lower()
    if _WEAK.search(text):
        return -1
    return 3 if _SLAM.search(text) else 1


def tf_rank(root: str) -> int:
    """Rank of tf's poses, by its outermost frame: a map is corrected by SLAM (REP 105), a robot's base is no world."""
    if re.search(r"base|body|link|footprint", root.lower()):
        return -2
    return 2 if re.search(r"map|world|earth", root.lower()) else 0


def _given(topics: Sequence[Topic], role: str, name: str, file: str) -> Topic | None:
    if role not in ROLES:
        raise _wrong_topic(f"topics are given for {', '.join(ROLES)}", f"{role!r}", file)
    if (name == NONE and role != "camera") or (role == "odometry" and name == TF):
        return None
    fitting = {topic.name: topic for topic in topics if topic.type in _TYPES[role]}
    if name in fitting:
        return fitting[name]
    rule = f"the topic given for {role} must be in the bag, of type {' or '.join(_TYPES[role])}"
    found = f"no such topic {name!r}; there are {', '.join(sorted(fitting)) or 'none of that type'}"
    raise _wrong_topic(rule, found, file)


def _shows(topic: Topic) -> bool:
    """Whether a topic holds images for the eye."""
    if topic.type not in IMAGES or _NO_IMAGE.search(topic.name.lower()) or "ompressedDepth" in topic.encoding:
        return False
    return topic.type == "CompressedImage" or is_image(topic.encoding)


def _ranked_cameras(topics: Sequence[Topic], file: str) -> list[Topic]:
    cameras = [topic for topic in topics if _shows(topic)]
    if not cameras:
        listed = ", ".join(f"{topic.name} ({topic.type} {topic.encoding})".replace(" )", ")") for topic in topics[:20])
        raise CaptureError(
            "a bag must have a topic with images (sensor_msgs/Image or CompressedImage)",
            found=listed or "no messages",
            remedy="record the camera, too, or name its topic in the card: capture.topics: {camera: /name}",
            file=file,
        )
    return sorted(cameras, key=lambda topic: (*_camera_rank(topic, topics), topic.name))


def _camera_rank(topic: Topic, topics: Sequence[Topic]) -> tuple[bool, bool, bool, bool, int, int]:
    """Sort key: calibrated, with depth, in colour, uncompressed, in front, then the one with the most images."""
    name = topic.name.lower()
    grey = topic.encoding.startswith(("mono", "8UC1"))
    others = [other for other in topics if other != topic]
    front = next((i for i, word in enumerate(("front", "color", "rgb", "left")) if word in name), 4)
    return (
        _info_of(topic, others) is None,
        _depth_of(topic, others) is None,
        grey,
        topic.type != "Image",
        front,
        -topic.count,
    )


def _info_of(image: Topic | None, topics: Sequence[Topic]) -> Topic | None:
    """The CameraInfo of an image: next to it, else below the nearest common namespace and of the same frame."""
    if image is None:
        return None
    infos = [topic for topic in topics if topic.type == INFO]
    neighbour = str(PurePosixPath(image.base).parent / "camera_info")
    if adjacent := [topic for topic in infos if topic.name == neighbour]:
        return adjacent[0]
    same = [topic for topic in infos if image.frame and topic.frame == image.frame and _shared(topic, image) > 1]
    return max(same, key=lambda topic: (_shared(topic, image), topic.name), default=None)


def _depth_of(camera: Topic, topics: Sequence[Topic]) -> Topic | None:
    """Depth of the camera: registered to it (its frame), else of the same device (its namespace)."""
    depths = [topic for topic in topics if topic.type in IMAGES and _holds_depth(topic)]
    near = [topic for topic in depths if topic.frame == camera.frame or _shared(topic, camera) > 1]

    def rank(topic: Topic) -> tuple[bool, int, bool, str]:
        return not is_registered(topic, camera), -_shared(topic, camera), topic.type != "Image", topic.name

    return min(near, key=rank, default=None)


def is_registered(depth: Topic, camera: Topic) -> bool:
    """Whether depth is seen by the image's camera: of its frame, or named so. librealsense numbers all frames "0"."""
    if re.search(r"align|regist|to_rgb|to_color", depth.name.lower()):
        return True
    return depth.frame == camera.frame and not re.fullmatch(r"\d*", depth.frame)


def _holds_depth(topic: Topic) -> bool:
    name = topic.name.lower()
    if topic.type == "Image":
        named = "depth" in name or topic.encoding != "mono16"  # 16-bit grey is an image elsewhere
        return named and topic.encoding in DEPTH_ENCODINGS and not re.search(r"infra|confidence|/ir/", name)
    raw = topic.encoding.startswith(DEPTH_ENCODINGS)
    return "ompressedDepth" in topic.encoding or (raw and "depth" in name)


def _shared(topic: Topic, other: Topic) -> int:
    """Number of leading parts that two names share, the root counted."""
    pairs = zip(topic.name.split("/"), other.name.split("/"), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _first(topics: Sequence[Topic], preferred: str) -> Topic | None:
    return min(topics, key=lambda t: (re.search(preferred, t.name.lower()) is None, -t.count, t.name), default=None)
