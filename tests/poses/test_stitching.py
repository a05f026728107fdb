"""Chunks of a simulated network brought into one frame."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.geometry import Pose, angle_deg, fit_similarity, matrix_from_rotvec
from pipeline.gpu_backends.errors import BadOutputError, GpuMemoryError
from pipeline.poses.network import ChunkRunner, Chunks
from pipeline.poses.sparse_map import PoseSigma
from pipeline.poses.stitching import stitch
from tests.fakes.long_walk import long_walk
from tests.fakes.simulated_network import Errors, Simulated, Truth

COUNT = 120
SENSOR = PoseSigma(1.0, 0.03)


@pytest.fixture(scope="module")
def walk() -> tuple[Truth, dict[tuple[int, int], int]]:
    """Two rounds through a hall, twelve images for every six metres."""
    return long_walk(COUNT)


def run(network: Simulated, links: dict[tuple[int, int], int], count: int = COUNT, **values) -> Chunks:
    """All chunks of the first images."""
    images = {i: Path(str(i)) for i in range(count)}
    links = {pair: number for pair, number in links.items() if pair[1] < count}
    runner = ChunkRunner(network, images, links, lambda *_: None)
    return runner.run(list(images), (640, 480), **{"in_time": True, **values})


def errors(poses: dict[int, Pose], truth: Truth) -> np.ndarray:
    """Distances to the true positions [m] after the best similarity."""
    found = np.array([poses[i].translation for i in sorted(poses)])
    true = np.array([truth.poses[i].translation for i in sorted(poses)])
    return np.linalg.norm(fit_similarity(found, true).apply(found) - true, axis=1)


def test_drifting_chunks_are_stitched_and_loops_closed(walk):
    """5 % of scale drift a chunk and 10 % of outliers leave the track right to centimetres; loops make it better."""
    truth, links = walk
    network = Simulated(truth, capacity=24)
    chunks = run(network, links)
    whole = stitch(chunks.chunks, {}, SENSOR, 0)
    chain = [chunk for chunk in chunks.chunks if chunk.run < len(network.asked) - chunks.loops]
    assert chunks.loops >= 3 and len(whole.poses) >= COUNT - 5
    error = errors(whole.poses, truth)
    assert np.sqrt((error**2).mean()) < 0.03
    assert np.sqrt((error**2).mean()) < np.sqrt((errors(stitch(chain, {}, SENSOR, 0).poses, truth) ** 2).mean())


def test_chunks_have_the_scales_they_were_drawn_with(walk):
    """A chunk's scale undoes its drift and normalisation."""
    truth, links = walk
    network = Simulated(truth, Errors(drift=0.2), capacity=24)
    chunks = run(network, links, 60)
    scales = stitch(chunks.chunks, {}, SENSOR, 0).scales
    depths = [float(np.median([np.median(truth.depths[i]) for i in asked])) for asked in network.asked]
    true = np.array([depths[chunks.chunks[n].run] / 1.2 ** chunks.chunks[n].run for n in scales])
    found = np.array(list(scales.values()))
    assert np.abs(found / true / (found[0] / true[0]) - 1).max() < 0.01


def test_known_poses_give_frame_and_metres(walk):
    """With a sensor's noisy poses the result lies in its frame, in metres, and is better than they are."""
    truth, links = walk
    rng = np.random.default_rng(5)
    known = {
        i: Pose(
            pose.rotation @ matrix_from_rotvec(np.deg2rad(rng.normal(0, 0.5, 3))),
            pose.translation + rng.normal(0, 0.03, 3),
        )
        for i, pose in enumerate(truth.poses)
        if i % 2
    }
    stitched = stitch(run(Simulated(truth, capacity=24), links, 60).chunks, known, SENSOR, 0)
    assert stitched.anchored
    shift = [np.linalg.norm(pose.translation - truth.poses[i].translation) for i, pose in stitched.poses.items()]
    turn = [float(angle_deg(pose.rotation, truth.poses[i].rotation)) for i, pose in stitched.poses.items()]
    given = [np.linalg.norm(pose.translation - truth.poses[i].translation) for i, pose in known.items()]
    assert np.median(shift) < np.median(given) and max(shift) < 0.1 and np.median(turn) < 0.5


def test_memory_that_does_not_do_halves_the_chunk(walk):
    """Out of memory is no end; the rest goes on with less at once."""
    truth, links = walk
    network = Simulated(truth, capacity=40, fits=12)
    chunks = run(network, links, 60)
    assert chunks.halved == 2 and chunks.capacity == 10
    assert max(map(len, network.asked)) <= 12
    assert errors(stitch(chunks.chunks, {}, SENSOR, 0).poses, truth).max() < 0.1


def test_two_images_must_fit(walk):
    """Where memory holds one image there is nothing to halve."""
    truth, links = walk
    with pytest.raises(GpuMemoryError, match="not even 2"):
        run(Simulated(truth, fits=1), links, 20)


def test_memory_is_that_of_one_chunk(walk):
    """Three times the chunks take hardly more memory: maps are handed on, only samples stay."""

    def peak(count: int) -> int:
        large = replace(truth, depths=[np.ones((2, 2))] * COUNT)
        network = _Large(large, capacity=20)
        tracemalloc.start()
        run(network, links, count)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    truth, links = walk
    peak(20)  # what is loaded once
    assert peak(COUNT) < 1.5 * peak(20)


class _Large(Simulated):
    def see(self, indices):
        """Maps of the size that networks give."""
        poses, camera, _, _ = super().see(indices)
        maps = [np.full((392, 518), 1.0, np.float32) for _ in indices]
        return poses, camera.resized(518, 392), maps, maps


def test_images_of_another_place_are_reported_and_the_rest_is_built(walk):
    """A cut in the middle: what follows has no view in common with what was before."""
    truth, links = walk
    places = [0] * 45 + [1] * 15
    apart = {pair: count for pair, count in links.items() if (pair[0] < 45) == (pair[1] < 45)}
    stitched = stitch(run(Simulated(truth, places=places, capacity=24), apart, 60).chunks, {}, SENSOR, 0)
    assert set(stitched.poses) <= set(range(45)) and len(stitched.poses) >= 43
    assert set(range(45, 60)) <= {i for group in stitched.apart for i in group}
    assert errors(stitched.poses, truth).max() < 0.1


def test_images_without_answer_are_left_out(walk):
    """NaN for some images costs these; a run of nothing but NaN costs the run."""
    truth, links = walk

    class Blind(Simulated):
        def ask(self, request):
            """Nothing at all the second time."""
            if "images" in request and len(self.asked) == 1:
                self.asked.append([])
                raise BadOutputError("NaN in every one of 24 images")
            return super().ask(request)

    chunks = run(Simulated(truth, nan=(7, 30), capacity=24), links, 60)
    assert chunks.failed == (7, 30)
    chunks = run(Blind(truth, capacity=24), links, 60)
    assert set(chunks.failed) == set(range(24, 42))
    assert len(stitch(chunks.chunks, {}, SENSOR, 0).poses) >= 38


def test_unordered_images_share_those_that_match(walk):
    """Chunks of shuffled photos overlap in what they show."""
    truth, links = walk
    from pipeline.poses.network import order_by_matches

    order = np.random.default_rng(2).permutation(60).tolist()
    at = {i: n for n, i in enumerate(order)}
    shuffled = {tuple(sorted((at[i], at[j]))): n for (i, j), n in links.items() if i < 60 and j < 60}
    mixed = Truth(truth.camera, [truth.poses[i] for i in order], [truth.depths[i] for i in order])
    runner = ChunkRunner(Simulated(mixed, capacity=20), {i: Path(str(i)) for i in range(60)}, shuffled, lambda *_: None)
    chunks = runner.run(order_by_matches(range(60), shuffled), (640, 480), in_time=False)
    stitched = stitch(chunks.chunks, {}, SENSOR, 0)
    assert len(stitched.poses) >= 57 and errors(stitched.poses, mixed).max() < 0.1
