"""Videos: what cameras see, and the chase camera."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import MachineError, SimError
from pipeline.geometry import Camera, Gaussians, Mesh, Pose, matrix_from_rotvec
from sim.chase_camera import (
    AHEAD,
    ARM,
    CLEAR,
    DISTANCE,
    ELEVATION,
    ELEVATIONS,
    LENS,
    RAISED,
    REACH,
    STANDING,
    ChaseCamera,
)
from sim.config import EnvConfig
from sim.controlled import find_robot
from sim.drivers import EpisodeResult
from sim.env import SceneEnv
from sim.robots.model import Robot
from sim.robots.state import RobotState
from sim.scene.scene import SimScene
from sim.sensors.cameras.body import COLOR
from sim.sensors.cameras.props import Balls, Patches, Posts, Props, Solids
from sim.tasks.driving.driving_tasks import NAVIGATE
from sim.video import (
    ENLARGED,
    HOLD,
    IMAGE_HEIGHT,
    PAGE,
    PANEL,
    SHOWN,
    STRIP,
    CameraVideo,
    ChaseVideo,
    VideoWriter,
    between,
    fitted,
    images_of,
    props_between,
    tiled,
)
from tests.sim.floors import floor_scene, standing


def images(count: int, brightness: int) -> np.ndarray:
    """Of 8 x 12 pixels, each of its own grey."""
    greys = brightness + 12 * np.arange(count)
    return np.broadcast_to(greys[:, None, None, None], (count, 8, 12, 3)).astype(np.uint8)


def test_images_lie_in_rows():
    """Five of them in two rows of three; the last place is empty."""
    page = tiled(images(5, 50))
    assert page.shape == (16, 36, 3)
    places = page.reshape(2, 8, 3, 12, 3).swapaxes(1, 2).reshape(6, -1)
    assert (places[:5] == np.array([50, 62, 74, 86, 98])[:, None]).all()
    assert (places[5].reshape(-1, 3) == PAGE).all()


def test_a_video_plays_as_fast_as_it_was_lived(tmp_path: Path):
    """As many images as steps, at their rate, enlarged; of many robots, the first."""
    film = CameraVideo(tmp_path / "new" / "video.mp4", rate=5)
    for step in range(12):
        film.update({"rgb": images(20, 5 * step)}, {})
    film.close()
    with av.open(str(tmp_path / "new" / "video.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.average_rate == 5
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]
    assert len(frames) == 12
    assert frames[0].shape == (4 * 8 * ENLARGED + STRIP, 4 * 12 * ENLARGED, 3)
    for step, frame in enumerate(frames):
        places = frame[:-STRIP].reshape(4, 8 * ENLARGED, 4, 12 * ENLARGED, 3).mean((1, 3, 4)).ravel()
        np.testing.assert_allclose(places, 5 * step + 12 * np.arange(SHOWN), atol=4)


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    """All images (H, W, 3) of a film, and how many there are a second."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)], float(stream.average_rate or 0)


@pytest.fixture
def env(room_scene: SimScene):
    """Two robots in the room."""
    robot, drive = find_robot("rover")
    made = SceneEnv(NAVIGATE, [room_scene], robot, drive, 2, EnvConfig(seed=5))
    yield made
    made.close()


def test_a_video_follows_the_first_robot(env: SceneEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without a display; five images a step of 0.2 s, the way the robot goes, beside what its camera saw."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    seen, _ = env.reset(seed=5)
    first = seen["rgb"][0].astype(int)
    film = ChaseVideo(env, tmp_path / "video.mp4", "a test")
    film.update(seen, {})
    for _ in range(2):
        seen, *_ = env.step(np.array([[0.2, 0.5], [-1.0, -1.0]], np.float32))
        film.update(seen, {1: EpisodeResult("crash", False)})  # not the one that is followed
    film.close()
    frames, rate = frames_of(tmp_path / "video.mp4")
    assert rate == 25
    assert len(frames) == 2 * 5
    assert frames[0].shape == (LENS.height, LENS.width + PANEL, 3)
    height, width = first.shape[:2]
    factor = min(PANEL // width, IMAGE_HEIGHT // height)
    left = LENS.width + (PANEL - factor * width) // 2
    beside = frames[0][STRIP : STRIP + factor * height, left : left + factor * width]
    small = beside.reshape(height, factor, width, factor, 3).mean((1, 3))
    assert np.abs(small - first).mean() < 6
    assert np.abs(small - seen["rgb"][0]).mean() > 12
    views = [frame[:, : LENS.width].astype(int) for frame in frames]
    assert all(np.abs(one - other).mean() > 0.5 for one, other in pairwise(views))


def test_legs_are_shown_as_they_move(room_scene: SimScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A step of 0.2 s is half a stride: on the way joints are elsewhere than between its two ends."""
    robot, drive = find_robot("go2")
    env, shown = SceneEnv(NAVIGATE, [room_scene], robot, drive, 1, EnvConfig(seed=5)), list[np.ndarray]()

    def shoot(self: ChaseCamera, moments: RobotState, *others: object) -> np.ndarray:
        shown.extend(moments.joint_position)
        return np.zeros((len(moments), self.lens.height, self.lens.width, 3), np.uint8)

    monkeypatch.setattr(ChaseCamera, "shoot", shoot)
    with closing(env):
        film = ChaseVideo(env, tmp_path / "video.mp4", "a test")
        for steps in range(4):
            seen, *_ = env.step(np.array([[1.0, 0.0]], np.float32)) if steps else env.reset(seed=5)
            film.update(seen, {})
        film.close()
        assert env.watchers == []
        end = env.engine.read().joint_position[0]
    assert len(shown) == 3 * 5
    np.testing.assert_allclose(shown[-1], end)
    straight = shown[4] + (shown[9] - shown[4]) * np.array([[0.2], [0.4], [0.6], [0.8]])
    assert np.abs(shown[5:9] - straight).max() > 0.1


@pytest.mark.parametrize(
    ("size", "shown", "said"),
    [
        ((96, 128), (192, 256), "2x enlarged"),
        ((24, 32), (240, 320), "10x enlarged"),
        ((200, 300), (200, 300), "true size"),
        ((480, 641), (160, 213), "1/3 of their size"),
        ((600, 64), (200, 21), "1/3 of their size"),
    ],
)
def test_an_inset_is_scaled_by_whole_numbers(size: tuple[int, int], shown: tuple[int, int], said: str):
    """As large as there is room, and the caption says by how much."""
    image, caption = fitted(np.full((*size, 3), 99, np.uint8))
    assert (image.shape, caption) == ((*shown, 3), said)
    assert (image == 99).all()


@pytest.mark.parametrize(("by", "channel"), [("goal", 1), ("crash", 0)])
def test_a_video_says_how_an_episode_ended(env: SceneEnv, tmp_path: Path, by: str, channel: int):
    """The last place is held for a second, the outcome in green or red; the next episode is filmed from its start."""
    seen, _ = env.reset(seed=5)
    film = ChaseVideo(env, tmp_path / "video.mp4", "a test")
    film.update(seen, {})
    seen, _ = env.reset(seed=8)
    film.update(seen, {0: EpisodeResult(by, channel == 1)})
    fresh = ChaseVideo(env, tmp_path / "fresh.mp4", "a test")
    fresh.update(seen, {})
    seen, *_ = env.step(np.zeros((2, 2), np.float32))
    for one in (film, fresh):
        one.update(seen, {})
        one.close()
    (frames, rate), (anew, _) = (frames_of(tmp_path / name) for name in ("video.mp4", "fresh.mp4"))
    assert len(frames) == HOLD * rate + 5
    for number, there in ((0, True), (-1, False)):
        text = frames[number][300:, LENS.width :].astype(int)
        colored = text[..., channel] > np.delete(text, channel, 2).max(-1) + 50
        assert (colored.sum() > 20) == there
    views = [frame[:, : LENS.width].astype(int) for frame in (frames[-5], anew[0], frames[0])]
    assert np.abs(views[0] - views[1]).mean() < 6
    assert np.abs(views[0] - views[2]).mean() > 20


def test_depths_are_shown_in_grey():
    """Near things bright, what is unknown black; colours come first, and the blind have nothing to show."""
    depth = np.array([[[0.0, 1.0], [2.5, 9.0]]], np.float32)
    shown = images_of({"velocity": np.zeros((1, 3), np.float32), "depth": depth})
    assert shown is not None
    assert shown.shape == (1, 2, 2, 3)
    assert shown[0, ..., 0].tolist() == [[0, 204], [127, 0]]
    rgb = images(1, 50)
    assert images_of({"depth": depth, "rgb": rgb}) is rgb
    assert images_of({"velocity": np.zeros((1, 3), np.float32)}) is None


def test_cameras_are_shown_one_below_the_other():
    """Each robot's: smaller images as wide as the widest, or with a black edge; depths only if there are no colours."""
    third, wrist, narrow = images(2, 50), images(2, 100)[:, :2, :6], images(2, 150)[:, :3, :5]
    depth = np.full((2, 2, 4), 2.5, np.float32)
    shown = images_of({"third_rgb": third, "third_depth": depth, "wrist_rgb": wrist, "narrow_rgb": narrow})
    assert shown is not None
    assert shown.shape == (2, 8 + 4 + 3, 12, 3)
    for robot in range(2):
        assert (shown[robot, :8] == 50 + 12 * robot).all()
        assert (shown[robot, 8:12] == 100 + 12 * robot).all()
        assert (shown[robot, 12:, :5] == 150 + 12 * robot).all()
        assert not shown[robot, 12:, 5:].any()
    both = images_of({"a_depth": depth, "b_depth": depth / 2})
    assert both is not None
    assert both[0, :, 0, 0].tolist() == [127, 127, 191, 191]


def test_a_video_shows_cameras_with_names(tmp_path: Path):
    """The third person above the wrist, of each robot."""
    film = CameraVideo(tmp_path / "video.mp4", rate=5)
    film.update({"third_rgb": images(4, 50), "wrist_rgb": images(4, 150)}, {})
    film.close()
    frames, _ = frames_of(tmp_path / "video.mp4")
    places = frames[0][:-STRIP].reshape(4, 8 * ENLARGED, 2, 12 * ENLARGED, 3).mean((1, 3, 4))
    np.testing.assert_allclose(places, [[50, 62], [150, 162], [74, 86], [174, 186]], atol=4)


def test_a_video_is_an_mp4(tmp_path: Path):
    """Anything else is refused, with a name that would do."""
    with pytest.raises(SimError, match=r"out\.mp4"):
        VideoWriter(tmp_path / "out.gif", 5)


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (Path.mkdir, "results need a place of their own"),
        (lambda path: path.symlink_to("/dev/full"), "the disk must have room"),
    ],
)
def test_a_video_that_can_not_be_written_is_named(tmp_path: Path, spoil: Callable[[Path], None], rule: str):
    """PyAV opens it with its first packet, and its errors name no file."""
    spoil(tmp_path / "out.mp4")
    with pytest.raises(MachineError, match=rf"out\.mp4: {rule}"), closing(VideoWriter(tmp_path / "out.mp4", 5)) as film:
        film.add(np.zeros((16, 16, 3), np.uint8))


SMALL_LENS = Camera(80, 60, 50.0, 50.0, 40.0, 30.0)
PLACE, YAW = np.array([[0.7, 2.1]]), np.array([0.6])
BACK = -np.array([np.cos(0.6), np.sin(0.6), 0.0])
NOW = 0.04  # [s]


def wall_behind(distance: float, top: float) -> Mesh:
    """A wall 4 m wide across the way behind the robot, up to that height."""
    side = np.array([-BACK[1], BACK[0], 0.0])
    foot = np.array([*PLACE[0], 0.0]) + distance * BACK
    corners = [foot + 2 * side, foot - 2 * side, foot - 2 * side + [0, 0, top], foot + 2 * side + [0, 0, top]]
    return Mesh.from_arrays(np.array(corners), np.array([[0, 1, 2], [0, 2, 3]]))


def blobs(places: np.ndarray, size: float, harmonics: np.ndarray) -> Gaussians:
    """Opaque round ones at places (N, 3) [m], with spherical harmonics (N, 3)."""
    count = len(places)
    return Gaussians(
        places.astype(np.float32),
        np.full((count, 3), np.log(size), np.float32),
        np.tile(np.array([1, 0, 0, 0], np.float32), (count, 1)),
        np.full(count, 9.0, np.float32),
        harmonics[:, None].astype(np.float32),
    )


def scene(mesh: Mesh | None = None) -> SimScene:
    """A floor; all that would be seen of it lies far behind the camera."""
    unseen = blobs(np.array([[0, 0, 0.2]]) + 30 * BACK, 0.1, np.zeros((1, 3)))
    return replace(floor_scene(np.ones((30, 40), bool), mesh=mesh), splat=lambda: unseen)


def middle(robot: Robot) -> np.ndarray:
    """Of the robot that stands at the place."""
    return np.array([*PLACE[0], 0.2 - robot.base_height + robot.height / 2])


def test_it_looks_on_from_behind_and_above(rover: Robot):
    """Level, an arm away, at what is just before the robot, which is drawn below the middle of the image."""
    camera = ChaseCamera(rover, [scene()], lens=SMALL_LENS)
    state = standing(PLACE, YAW)
    pose = camera.follow(state, 0, NOW)
    away = pose[:3, 3] - middle(rover)
    np.testing.assert_allclose(np.linalg.norm(away), ARM + rover.radius, atol=1e-6)
    np.testing.assert_allclose(away[:2] / np.linalg.norm(away[:2]), BACK[:2], atol=1e-6)
    np.testing.assert_allclose(np.arcsin(away[2] / np.linalg.norm(away)), ELEVATIONS[0], atol=1e-6)
    np.testing.assert_allclose(pose[:3, :3].T @ pose[:3, :3], np.eye(3), atol=1e-9)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    assert pose[2, 0] == pytest.approx(0)  # the image's x axis is level,
    assert pose[2, 1] < -0.8  # and its y axis points down
    seen = pose[:3, :3].T @ (middle(rover) - AHEAD * BACK - pose[:3, 3])
    np.testing.assert_allclose(seen[:2], 0, atol=1e-6)
    image = camera.shoot(state, 0, Props.none(1), NOW)[0]
    rows, columns = np.nonzero(image.any(-1))
    assert image.shape == (60, 80, 3)
    assert abs(columns.mean() + 0.5 - SMALL_LENS.cx) < 1
    assert SMALL_LENS.cy < rows.mean() < 45
    assert (image[rows, columns, 0] > image[rows, columns, 2] + 30).all()
    assert COLOR[0] > COLOR[2]


def test_it_stays_on_the_robots_side_of_walls(rover: Robot):
    """Before a high wall the arm is short, at the elevation that leaves most of it."""
    camera = ChaseCamera(rover, [scene(wall_behind(0.5, 3.0))], lens=SMALL_LENS)
    pose = camera.follow(standing(PLACE, YAW), 0, NOW)
    away = pose[:3, 3] - middle(rover)
    assert away[:2] @ BACK[:2] < 0.5
    assert np.arcsin(away[2] / np.linalg.norm(away)) == pytest.approx(ELEVATIONS[-1])
    np.testing.assert_allclose(
        np.linalg.norm(away), min(ARM + rover.radius, 0.5 / np.cos(ELEVATIONS[-1]) - CLEAR), atol=1e-4
    )


def test_it_looks_over_low_walls(rover: Robot):
    """No higher than it takes, with the whole arm."""
    camera = ChaseCamera(rover, [scene(wall_behind(0.5, 0.9))], lens=SMALL_LENS)
    away = camera.follow(standing(PLACE, YAW), 0, NOW)[:3, 3] - middle(rover)
    assert np.arcsin(away[2] / np.linalg.norm(away)) == pytest.approx(ELEVATIONS[2])
    assert np.linalg.norm(away) == pytest.approx(ARM + rover.radius)


def test_it_follows_turns_slowly(rover: Robot):
    """The short way round; after a cut it is straight behind at once."""
    camera = ChaseCamera(rover, [scene()], lens=SMALL_LENS)

    def heading(yaw: float) -> float:
        axis = camera.follow(standing(PLACE, np.array([yaw])), 0, 0.2)[:3, 2]
        return float(np.arctan2(axis[1], axis[0]))

    assert heading(3.0) == pytest.approx(3.0)
    turned = heading(-3.0)
    assert 3.0 < turned < np.pi or turned < -3.0
    for _ in range(20):
        turned = heading(-3.0)
    assert turned == pytest.approx(-3.0, abs=0.01)
    camera.cut()
    assert heading(1.0) == pytest.approx(1.0)


def test_a_wall_shortens_the_arm_at_once_and_it_grows_slowly(rover: Robot):
    """Nothing of the wall comes between; behind it the view doesn't jump."""
    free, walled = scene(), scene(wall_behind(0.5, 3.0))
    camera = ChaseCamera(rover, [free, walled], lens=SMALL_LENS)
    state = standing(PLACE, YAW)
    lengths = [np.linalg.norm(camera.follow(state, number, NOW)[:3, 3] - middle(rover)) for number in (0, 1, 0, 0)]
    assert lengths[0] == pytest.approx(ARM + rover.radius)
    assert lengths[1] < 0.5
    assert lengths[1] < lengths[2] < lengths[3] < lengths[0]


def test_haze_near_the_camera_is_not_drawn(rover: Robot):
    """Gaussians between the camera and the robot don't hide it, those behind it are seen."""
    eye = ChaseCamera(rover, [scene()], lens=SMALL_LENS).follow(standing(PLACE, YAW), 0, NOW)[:3, 3]
    places = np.array([0.7 * eye + 0.3 * middle(rover), middle(rover) - 1.5 * BACK])
    splat = blobs(places, 0.2, np.array([[-1.5, -1.5, 1.5], [-1.5, 1.5, -1.5]]))
    image = ChaseCamera(rover, [scene()], [splat], SMALL_LENS).shoot(standing(PLACE, YAW), 0, Props.none(1), NOW)[0]
    red, green, blue = image.astype(int).transpose(2, 0, 1)
    assert not ((blue > red + 20) & (blue > green + 20)).any()
    assert (green > red + 60).sum() > 50
    assert (red > blue + 60).sum() > 50


def test_a_tasks_things_are_there(rover: Robot):
    """A red ball ahead of the robot and to its left is above it and to the left of it in the image."""
    left = np.array([BACK[1], -BACK[0], 0.0])
    center = middle(rover) - 1.2 * BACK + 0.6 * left
    ball = Balls(center[None, None], np.array([[0.15]]), np.array([[[1.0, 0.0, 0.9]]]))
    props = Props(ball, Posts.none(1), Patches.none(1))
    image = ChaseCamera(rover, [scene()], lens=SMALL_LENS).shoot(standing(PLACE, YAW), 0, props, NOW)[0]
    rows, columns = np.nonzero(image[..., 2] > image[..., 1].astype(int) + 60)
    assert len(rows) > 10
    assert rows.max() < SMALL_LENS.cy + 5
    assert columns.max() < SMALL_LENS.cx


def test_a_robot_is_shown_on_its_way_between_two_steps():
    """Halfway in place, heading and joints, also where the quaternions of one rotation have other signs."""
    before = standing(np.array([[1.0, 2.0]]), np.array([0.2]))
    after = standing(np.array([[1.4, 1.8]]), np.array([0.6]))
    flipped = replace(after, quaternion=-after.quaternion, joint_position=np.array([[0.5, -1.0]], np.float32))
    moments: RobotState = between(before, flipped, np.array([0.5, 1.0]))
    np.testing.assert_allclose(moments.position[:, :2], [[1.2, 1.9], [1.4, 1.8]], atol=1e-6)
    np.testing.assert_allclose(moments.joint_position, [[0.25, -0.5], [0.5, -1.0]], atol=1e-6)
    np.testing.assert_allclose(
        2 * np.arctan2(moments.quaternion[:, 3], moments.quaternion[:, 0]), [0.4, 0.6], atol=1e-6
    )


def panel_side(eye: np.ndarray, at: np.ndarray, ahead: np.ndarray) -> float:
    """Angle of a camera around what it looks at, from straight ahead of the robot [rad]."""
    away = eye - at
    return float(np.arctan2(ahead[0] * away[1] - ahead[1] * away[0], away[:2] @ ahead[:2]))


def test_before_an_arm_the_camera_stands_and_looks_at_the_workspace(rover: Robot):
    """From ahead and the left, above; where a wall hides that side, from the right."""
    arm = replace(rover, fixed_base=True)
    state, ahead = standing(PLACE, YAW), -BACK
    at = state.position[0] + REACH * ahead + [0, 0, RAISED]
    pose = ChaseCamera(arm, [scene()], lens=SMALL_LENS).follow(state, 0, NOW)
    away = pose[:3, 3] - at
    assert np.linalg.norm(away) == pytest.approx(DISTANCE, abs=1e-5)
    assert np.arcsin(away[2] / DISTANCE) == pytest.approx(ELEVATION, abs=1e-5)
    assert panel_side(pose[:3, 3], at, ahead) == pytest.approx(STANDING[0], abs=1e-5)
    np.testing.assert_allclose(pose[:3, :3].T @ (at - pose[:3, 3]), [0, 0, DISTANCE], atol=1e-5)
    left = np.array([-ahead[1], ahead[0], 0.0])
    corners = at + 0.3 * left + np.array([s * 3 * ahead + [0, 0, z] for s, z in ((-1, -1), (1, -1), (1, 3), (-1, 3))])
    wall = Mesh.from_arrays(corners, np.array([[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]]))
    pose = ChaseCamera(arm, [scene(wall)], lens=SMALL_LENS).follow(state, 0, NOW)
    assert panel_side(pose[:3, 3], at, ahead) == pytest.approx(STANDING[1], abs=1e-5)
    assert STANDING[1] < 0 < STANDING[0]


def test_what_an_arm_works_on_is_in_its_film(rover: Robot):
    """A green cube where the camera looks is in the middle of the image, with a splat just before it."""
    arm, state = replace(rover, fixed_base=True), standing(PLACE, YAW)
    cube = np.array(np.meshgrid(*[[-0.08, 0.08]] * 3)).reshape(3, -1).T
    at = state.position[0] - REACH * BACK + [0, 0, RAISED]
    solids = Solids(Pose(np.eye(3), at).matrix[None, None], np.array([[[0.1, 0.9, 0.1]]]))
    props = replace(Props.none(1), solids=solids)
    eye = ChaseCamera(arm, [scene()], lens=SMALL_LENS).follow(state, 0, NOW)[:3, 3]
    blue = blobs((0.45 * eye + 0.55 * at)[None] - [0, 0, 0.15], 0.03, np.array([[-1.5, -1.5, 1.5]]))
    image = ChaseCamera(arm, [scene()], [blue], SMALL_LENS, ((cube,),)).shoot(state, 0, props, NOW)[0].astype(int)
    rows, columns = np.nonzero(image[..., 1] > image[..., [0, 2]].max(-1) + 40)
    assert len(rows) > 30
    np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], [SMALL_LENS.cy, SMALL_LENS.cx], atol=1.0)
    assert (image[..., 2] > image[..., :2].max(-1) + 60).sum() > 5


def test_bodies_are_shown_on_their_way_between_two_steps():
    """A third of the way and of the turn, in place; the rest as it was; tasks without bodies have none."""
    turns = np.array([0.3, -0.5, 0.8]) / 1.2
    one, two = (
        Pose(matrix_from_rotvec(turns * angle), np.array(place)).matrix[None, None]
        for angle, place in ((0.1, [1.0, 2.0, 0.5]), (0.4, [1.3, 1.7, 0.5]))
    )
    color = np.array([[[0.1, 0.2, 0.3]]])
    before, after = (replace(Props.none(1), objects=pose, solids=Solids(pose, color)) for pose in (one, two))
    shown = props_between(before, after, np.array([1 / 3, 1.0]))
    halfway = Pose(matrix_from_rotvec(turns * 0.2), np.array([1.1, 1.9, 0.5])).matrix
    for poses in (shown.objects, shown.solids.pose):
        np.testing.assert_allclose(poses[0, 0], halfway, atol=2e-3)
        np.testing.assert_allclose(poses[1], two[0], atol=1e-9)
        np.testing.assert_allclose(poses[0, 0, :3, :3] @ poses[0, 0, :3, :3].T, np.eye(3), atol=1e-9)
    np.testing.assert_array_equal(shown.solids.color, np.tile(color, (2, 1, 1)))
    nothing = props_between(Props.none(1), Props.none(1), np.array([0.2, 0.5, 1.0]))
    assert (len(nothing.objects), nothing.balls.radius.shape) == (0, (3, 0))
