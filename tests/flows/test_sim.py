"""`splatyard sim`: the command, and the page of a simulation."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import viser

import sim
from flows.cli import main
from flows.sim_view import SimPage, serve_sim
from flows.watching.shapes import shape_mesh, solids_of
from pipeline.errors import SimError
from pipeline.geometry import Pose, matrix_from_rotvec
from sim.drivers import EpisodeResult, run_episodes
from sim.env import SceneEnv
from sim.robots.catalog import PACKAGE
from sim.robots.model import Shape
from sim.sensors.cameras.props import Balls, Patches, Posts, Props, Solids
from sim.tasks.handling.table import TableScenario
from tests.bundles import make_bundle
from tests.synthetic import Room


@pytest.fixture
def bundle(tmp_path: Path, room: Room) -> Path:
    """The tiny one."""
    return make_bundle(tmp_path, room)


@pytest.fixture
def page(bundle: Path) -> Iterator[tuple[SceneEnv, SimPage]]:
    """Of two robots among posts, after a step."""
    env = sim.make("weave", [bundle], 2, seed=3)
    shown = SimPage(env, serve_sim(18090, "a rover"))
    seen, _ = env.reset(seed=3)
    shown.update(seen, {})
    yield env, shown
    shown.close()
    env.close()


def test_it_says_how_episodes_ended_and_films_them(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """An image a step; standing still, all that ends an episode is its time."""
    film = tmp_path / "film.mp4"
    command = ["sim", str(bundle), "--envs", "3", "--seconds", "16.4", "--driver", "still", "--video", str(film)]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "navigate: how episodes ended" in " ".join(table.split())
    assert str(film) in "".join(table.split())
    rows = [line.split() for line in table.splitlines()]
    counts = {row[1]: row[3] for row in rows if len(row) == 5 and row[3].isdigit()}
    assert counts == {"crash": "0", "goal": "0", "time": "3", "tipped": "0"}
    with av.open(str(film)) as file:
        assert len(list(file.decode(video=0))) == 82


def test_an_unknown_task_is_an_error_with_its_remedy(bundle: Path, capsys: pytest.CaptureFixture[str]):
    """All tasks are named."""
    assert main(["sim", str(bundle), "--task", "fly"]) == 2
    assert "navigate, search, find, stairs, levels, avoid, climb, climb-joints, explore, weave" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_page_says_that_it_loads_until_the_robots_stand(bundle: Path):
    """No heap of links at the origin and no image before that; then the camera's image in its own size."""
    server = serve_sim(18093, "rover in hall")
    assert "loading" in texts(server)
    assert "rover in hall" in texts(server)
    env = sim.make("navigate", [bundle], 1)
    shown = SimPage(env, server)
    try:
        scene = server.scene._handle_from_node_name
        assert "loading" in texts(server)
        assert not scene["/robot_0/0"].visible
        assert not shown._images.visible
        seen, _ = env.reset(seed=0)
        shown.update(seen, {})
        assert scene["/robot_0/0"].visible
        np.testing.assert_array_equal(shown._images.image, seen["rgb"][0])
        assert "rover: navigate" in texts(server)
        assert "time: 0.0 s" in texts(server)
        time.sleep(0.3)
        seen, *_ = env.step(np.zeros((1, 2), np.float32))
        shown.update(seen, {0: EpisodeResult("goal", success=True)})
        assert "time: 0.2 s" in texts(server)
        assert "success: 1 of 1 episodes" in texts(server)
    finally:
        shown.close()
        env.close()


def test_all_begins_anew_when_a_viewer_asks_for_it(bundle: Path):
    """All are shown before; then the start, and the policy goes on from there."""

    class Impatient:
        def __init__(self, asks: int) -> None:
            self.asks, self.seconds = asks, list[float]()

        def update(self, _seen: object, _ended: object) -> bool:
            self.seconds.append(float(env.episodes.seconds[0]))
            return len(self.seconds) == self.asks

        def close(self) -> None: ...

    env = sim.make("navigate", [bundle], 1, cameras=())
    viewers = [Impatient(3), Impatient(0)]
    run_episodes(env, 4, 0, lambda _: np.zeros((1, 2), np.float32), viewers)
    env.close()
    assert viewers[0].seconds == viewers[1].seconds
    np.testing.assert_allclose(viewers[0].seconds, [0, 0.2, 0.4, 0, 0.2])


def texts(server: viser.ViserServer) -> str:
    """All that the page says, without Markdown's backslashes."""
    handles = server.gui._container_handle_from_uuid["root"]._children.values()
    said = [handle.content for handle in handles if isinstance(handle, viser.GuiMarkdownHandle)]
    return " ".join(said).replace("\\", "")


def test_the_page_shows_robots_where_they_are(page: tuple[SceneEnv, SimPage]):
    """Link by link, after each step."""
    env, shown = page
    nodes: dict[str, viser.SceneNodeHandle] = dict(shown.server.scene._handle_from_node_name)
    wheel = [link.name for link in env.robot.links].index("right_wheel")
    for _ in range(2):
        state = env.engine.read()
        for robot in range(2):
            base = np.array(nodes[f"/robot_{robot}/0"].position)
            np.testing.assert_allclose(base, state.position[robot], atol=1e-5)
            to_wheel = np.array(nodes[f"/robot_{robot}/{wheel}"].position) - base
            yaw = 2 * np.arctan2(state.quaternion[robot, 3], state.quaternion[robot, 0])
            np.testing.assert_allclose(to_wheel[:2], 0.16 * np.array([np.sin(yaw), -np.cos(yaw)]), atol=2e-3)
        time.sleep(0.06)  # the page takes no more than 20 updates a second
        seen, *_ = env.step(np.array([[0.4, 0.9], [0.5, -0.8]], np.float32))
        shown.update(seen, {})


def test_the_page_shows_the_first_robots_props(page: tuple[SceneEnv, SimPage]):
    """The ball at its goal, and those of the next episode instead of the old ones."""
    env, shown = page
    first = [tuple(handle.position) for handle in shown._props]
    goal = env.scenario.props().balls.center[0, 0]
    np.testing.assert_allclose(first[0], goal, atol=1e-5)
    handles = list(shown._props)
    time.sleep(0.06)
    still = np.tile(np.array([-0.54, 0], np.float32), (2, 1))
    shown.update(env.step(still)[0], {})
    assert shown._props == handles  # nothing has changed
    time.sleep(0.06)
    seen, *_ = env.step(np.full((2, 2), np.nan, np.float32))
    shown.update(seen, {})
    assert shown._props != handles
    names = [name for name in shown.server.scene._handle_from_node_name if name.startswith("/prop")]
    assert len(names) == len(shown._props)


def test_the_page_shows_the_first_robots_bodies(bundle: Path):
    """Where they are; a new colour makes them anew, a move doesn't."""
    env = sim.make("navigate", [bundle], 1)
    plate = np.array([[0, 0, 0], [0.2, 0, 0], [0, 0.3, 0], [0.2, 0.3, 0], [0.1, 0.1, 0.05]])
    env.solid_hulls = ((plate,), (plate, plate + np.array([0, 0, 0.1])))
    shown = SimPage(env, serve_sim(18091, "a rover"))
    try:
        scene = shown.server.scene
        turned = Pose(matrix_from_rotvec([0.3, 0, 0.6]), np.array([1.0, 2.0, 0.4]))
        poses, colors = np.stack([np.eye(4), turned.matrix])[None], np.array([[[1, 0, 0], [0, 1.0, 0]]])
        shown._show_solids(Solids(poses, colors))
        nodes = scene._handle_from_node_name
        frame, mesh = nodes["/solid_1"], nodes["/solid_1/1"]
        np.testing.assert_allclose(frame.position, turned.translation, atol=1e-6)
        np.testing.assert_allclose(frame.wxyz, turned.quaternion, atol=1e-6)
        assert mesh.color == (0, 255, 0)
        np.testing.assert_allclose(mesh.vertices.min(0), [0, 0, 0.1], atol=1e-6)
        shown._show_solids(Solids(poses[:, ::-1], colors))
        np.testing.assert_allclose(frame.position, 0)
        assert nodes["/solid_1/1"] is mesh
        shown._show_solids(Solids(poses, colors[:, ::-1]))
        assert nodes["/solid_1/1"].color == (255, 0, 0)
        shown._show_solids(Solids(poses, colors)[:0])
        assert not frame.visible
    finally:
        shown.close()
        env.close()


def test_things_are_solids_of_their_size():
    """A post stands on its foot, a patch is thin; what has no radius isn't there."""
    posts = Posts(
        np.array([[[1, 2, 0.1], [5, 5, 0]]]),
        np.array([[0.07, 0.0]]),
        np.array([[0.8, 0.8]]),
        np.array([[[1, 0, 0], [1, 1, 1]]]),
    )
    patches = Patches(np.array([[[3, 1, 0.2]]]), np.array([[0.4]]), np.array([[[1, 0.8, 0]]]))
    (post, red, middle), (patch, _, center) = solids_of(Props(Balls.none(1), posts, patches))
    assert red == (255, 0, 0)
    np.testing.assert_allclose(middle, [1, 2, 0.5])
    np.testing.assert_allclose(post.extents, [0.14, 0.14, 0.8], atol=5e-3)
    np.testing.assert_allclose(center, [3, 1, 0.2])
    np.testing.assert_allclose(patch.extents, [0.8, 0.8, 0.01], atol=0.03)
    assert solids_of(Props.none(1)) == []


@pytest.mark.parametrize(
    ("kind", "size", "extents"),
    [
        ("box", (0.1, 0.2, 0.3), (0.2, 0.4, 0.6)),
        ("sphere", (0.1, 0, 0), (0.2, 0.2, 0.2)),
        ("cylinder", (0.1, 0.3, 0), (0.2, 0.2, 0.6)),
        ("capsule", (0.1, 0.3, 0), (0.2, 0.2, 0.8)),
    ],
)
def test_shapes_have_the_size_of_the_robots(kind: str, size: tuple, extents: tuple):
    """Round their middle, upright along z."""
    mesh = shape_mesh(Shape(kind, np.array(size), Pose.identity(), 1.0, np.zeros((0, 3))))  # type: ignore[arg-type]
    np.testing.assert_allclose(mesh.extents, extents, atol=5e-3)
    np.testing.assert_allclose(mesh.bounds.mean(0), 0, atol=1e-6)


def test_a_task_of_arms_asks_for_an_arm(bundle: Path, capsys: pytest.CaptureFixture[str]):
    """A robot that is named and is none is refused."""
    assert main(["sim", str(bundle), "--task", "lift", "--robot", "rover"]) == 2
    assert "--robot panda" in capsys.readouterr().err


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
def test_a_task_brings_its_robot(bundle: Path, capsys: pytest.CaptureFixture[str]):
    """Nobody has to name it; another one may be named, where it fits."""
    assert main(["bench", "sim", str(bundle), "--task", "lift", "--envs", "1", "--steps", "1"]) == 0
    assert "lift, panda, sapien" in capsys.readouterr().out
    for task, robot, own in (("navigate", "panda", "rover"), ("climb", "rover", "go2"), ("walk", "rover", "go2")):
        assert main(["sim", str(bundle), "--task", task, "--robot", robot]) == 2
        assert "without --robot" in (told := " ".join(capsys.readouterr().err.split()))
        assert own in told.partition("without --robot")[2]


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="example-robot-data is not installed")
@pytest.mark.parametrize(
    "words",
    [
        ["sim", "terrain:0"],
        ["bench", "sim", "terrain:0"],
        ["teleop", "terrain:0"],
        ["eval", "--driver", "still", "--scene", "terrain:0"],
        ["record", "--driver", "still", "--scene", "terrain:0", "--lerobot", "demos"],
        ["eval", "--driver", "still"],
    ],
)
def test_all_that_simulate_take_a_gait_and_procedural_ground(words: list[str], monkeypatch: pytest.MonkeyPatch):
    """A gait as errors of tasks without one say; without a scene, that of the task, if it has one."""
    made: list[tuple[list[str], str]] = []

    def make(task: str, scenes: Sequence[str], num_envs: int, *, gait: str, **others: object) -> None:
        made.append((list(scenes), gait))
        raise SimError("a", found="b", remedy="c")

    monkeypatch.setattr(sim, "make", make)
    assert main([*words, "--task", "walk", "--robot", "go2", "--gait", "go2"]) == 2
    assert made == [(["terrain:0"], "go2")]


def test_the_page_begins_before_the_first_station(bundle: Path):
    """Of arms; it looks at where the hand works, from beside it and from above."""
    env = sim.make("lift", [bundle], 1, robot="panda", cameras=())
    assert isinstance(env.scenario, TableScenario)
    shown = SimPage(env, serve_sim(18092, "a rover"))
    try:
        camera = shown.server.initial_camera
        base = env.scenario.stations[0][0].world_from_base
        np.testing.assert_allclose(base.inverse().apply(np.array(camera.look_at)), [0.5, 0, 0.15], atol=1e-6)
        assert 0.5 < np.linalg.norm(np.subtract(camera.position, camera.look_at)) < 1.5
        shown.update(env.reset(seed=0)[0], {})
        assert "/solid_0/0" in shown.server.scene._handle_from_node_name
    finally:
        shown.close()
        env.close()
