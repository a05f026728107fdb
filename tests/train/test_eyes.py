"""Networks of eyes, and what they are to see."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch

import sim
from sim.finding.eyes import EYES, FIND, Eyes
from sim.policies.finder import FinderBody
from sim.scene.scene import SimScene
from train.eyes import EyesNetwork, Shown, Sight, patches, varied, weights_of, worn_out


def test_a_network_sees_as_its_file_does(rng: np.random.Generator):
    """To rounding; its arrays are those of the file."""
    eyes, network = Eyes(EYES[FIND]), EyesNetwork("rgbd")
    network.load_state_dict(weights_of(eyes.arrays))
    rgb = rng.integers(0, 256, (3, 48, 96, 3), dtype=np.uint8)
    depth = np.where(rng.random((3, 48, 96)) < 0.1, 0, rng.uniform(0.2, 6, (3, 48, 96))).astype(np.float32)
    sight = torch.from_numpy(np.concatenate([rgb.transpose(0, 3, 1, 2), depth[:, None]], 1).astype(np.float32))
    for one, other in zip(network.look(sight), eyes.look(rgb, depth), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    for name, values in network.arrays().items():
        np.testing.assert_array_equal(values, eyes.arrays[name])


def test_what_shows_the_ball_is_known(room_scene: SimScene):
    """Parts are marked where a ball's disc is by projecting its middle and radius, if it is before all else."""
    found, centers = 0, 0
    with closing(sim.make("find", [room_scene], 8, seed=5)) as env:
        for seed in range(6):
            seen, _ = env.reset(seed=seed)
            assert env.now
            balls, state = env.props().balls, env.now.state
            shown, sight = Shown(env, "rgbd").read(env, seen).numpy(), Sight(env, "rgbd").read(env, seen).numpy()
            assert shown.shape == (8, 1, 12, 24)
            assert np.array_equal(Shown(env, "rgb").read(env, seen).numpy()[:, :1], shown)
            assert sight.shape == (8, 4, 48, 96)
            np.testing.assert_array_equal(sight[:, 3], seen["depth"])
            for robot in range(8):
                offset = balls.center[robot, 0, :2] - state.position[robot, :2]
                distance = np.linalg.norm(offset)
                yaw = np.arctan2(offset[1], offset[0]) - state.planar[robot, 2]
                yaw = (yaw + np.pi) % (2 * np.pi) - np.pi
                rows, columns = np.nonzero(shown[robot, 0])
                if not len(rows):
                    continue
                found += 1
                assert abs(yaw) < np.pi / 2
                near = sight[robot, 3].reshape(12, 4, 24, 4).transpose(0, 2, 1, 3)[rows, columns]
                assert near[near > 0].min() < distance + 0.1
                middle = 48 - 27.7 * np.tan(yaw)
                centers += np.abs(columns * 4 + 2 - middle).min() < 4 + 27.7 * 0.5 / max(distance, 0.3)
    assert found > 3
    assert centers > 0.8 * found


def test_what_stands_on_the_floor_is_known(room_scene: SimScene):
    """By the heights of what a sensor measures, in the details where it is; the floor of a room ends nowhere."""
    with closing(sim.make("find", [room_scene], 8, seed=5)) as env:
        seen, _ = env.reset(seed=2)
        body = FinderBody.of(env, "rgb")
        lens, mount = body.lens, body.rig.mount
        shown = torch.from_numpy(Shown(env, "rgb").read(env, seen).numpy()[:, 1:]).float()
        thing, missing = (torch.nn.functional.pixel_shuffle(half, 2)[:, 0].numpy() for half in shown.split(4, 1))
        found = 0
        assert not missing.any()
        for robot in range(8):
            for row in range(2, 46, 2):
                for column in range(0, 96, 2):
                    at = np.array([(column + 0.5 - lens.cx) / lens.fx, (row + 0.5 - lens.cy) / lens.fy, 1.0])
                    depth = seen["depth"][robot, row, column]
                    level = mount.matrix[:3, :3] @ (at * depth) + mount.matrix[:3, 3]
                    height = level[2] + env.robot.base_height
                    away = np.linalg.norm((mount.matrix[:3, :3] @ (at * depth))[:2])
                    if depth > 0 and 0.17 < height < env.robot.height and away < 2.9:
                        found += 1
                        assert thing[robot, row // 2, column // 2]
        assert found > 60
        assert 0.02 < thing.mean() < 0.5


def test_patches_paint_over():
    """Each in one colour, few or many of them, and the same ones each time."""
    found = patches(40, 24, 48)
    assert found.shape == (40, 3, 24, 48)
    assert torch.equal(patches(40, 24, 48), found)
    colors = [len(np.unique(one.reshape(3, -1), axis=1).T) for one in found.numpy()]
    assert min(colors) < 10 < 60 < max(colors)
    assert 0.8 < float(found.log().mean().exp()) < 1.25


def test_light_varies_from_image_to_image():
    """Not within one, but for grain; black stays darker than white."""
    torch.manual_seed(2)
    colors = torch.full((40, 8, 10, 3), 0.2)
    colors[:, 4:] = 0.6
    result = varied(colors)
    assert result.shape == colors.shape
    assert -0.5 <= float(result.min()) <= float(result.max()) <= 0.5
    dark, light = result[:, :4].mean((1, 2)), result[:, 4:].mean((1, 2))
    assert (light.mean(1) > dark.mean(1)).all()
    assert float(light.std(0).min()) > 0.05
    assert float(result[:, :4].std((1, 2)).max()) < 0.08


def test_depths_wear():
    """By some per cent, and some are lost; what was unknown stays so."""
    torch.manual_seed(3)
    near = torch.full((4, 50, 50), 1 / 3)
    near[:, :10] = 0
    result = worn_out(near)
    depth = 1 / result[result > 0] - 1
    assert not result[:, :10].any()
    assert 0.01 < float((result[:, 10:] == 0).float().mean()) < 0.06
    assert abs(float(depth.mean()) - 2) < 0.01
    assert 0.04 < float(depth.std()) < 0.08


def test_eyes_of_colours_alone_are_given_a_flat_floor(room_scene: SimScene):
    """Where the floor is what is seen, that is what is measured; robots that lean a little, too."""
    with closing(sim.make("find", [room_scene], 8, seed=5)) as env:
        seen, _ = env.reset(seed=1)
        for _ in range(3):
            seen, *_ = env.step(np.tile(np.array([1.0, 0.4], np.float32), (8, 1)))
        given, measured = Sight(env, "rgb").read(env, seen).numpy()[:, 3], seen["depth"]
        below = (given > 0) & (given < 1.2)
        same = np.abs(given[below] - measured[below]) < 0.02 * measured[below]
        assert below[:, -4:].all()
        assert same.mean() > 0.6
        assert not given[:, :10].any()
