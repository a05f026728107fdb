"""The losses of training by gsplat: the CPU trainer's, and the angle between surfaces."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gsplat")

from pipeline.splat import gsplat_objective, loss  # noqa: E402 - after the skips
from pipeline.splat.exposure import Exposures  # noqa: E402

HEIGHT, WIDTH = 44, 52
LENS = np.array([[60.0, 0, 25], [0, 58, 21], [0, 0, 1]])


def tensor(array: np.ndarray, grad: bool = False):
    """As float32."""
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float32, requires_grad=grad)


def test_photometric_loss_is_the_cpus(rng):
    """Value and derivative."""
    photo = rng.integers(0, 255, (3, HEIGHT, WIDTH)).astype(np.uint8)
    rendered = (photo / 255 + rng.normal(0, 0.08, photo.shape)).astype(np.float32)
    by_planes = np.zeros_like(rendered)
    expected, _ = loss.photometric_loss(rendered, photo, 0.3, by_planes)
    given = tensor(rendered, grad=True)
    value = gsplat_objective.photometric_loss(given, tensor(photo / 255), 0.3)
    value.backward()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    assert given.grad is not None
    np.testing.assert_allclose(given.grad.numpy(), by_planes, atol=1e-3 * np.abs(by_planes).max())


def test_depth_loss_is_the_cpus(rng):
    """Value and derivatives, with unknown depth, transparent pixels and none that is not finite."""
    alpha = rng.uniform(0, 1, (HEIGHT, WIDTH)).astype(np.float32)
    depth = rng.uniform(1, 4, alpha.shape).astype(np.float32)
    measured = (depth + rng.normal(0, 0.1, alpha.shape) * (rng.random(alpha.shape) < 0.9)).astype(np.float32)
    measured[rng.random(alpha.shape) < 0.3] = 0
    tolerance = np.where(measured > 0, 0.01 * measured, 0).astype(np.float32)
    planes = np.concatenate([np.zeros((3, *alpha.shape)), (depth * alpha)[None]]).astype(np.float32)
    by_planes, by_passing = np.zeros_like(planes), np.zeros_like(alpha)
    expected = loss.depth_loss(planes, 1 - alpha, measured, tolerance, 1.0, by_planes, by_passing)
    summed, covered = tensor(planes[3], grad=True), tensor(alpha, grad=True)
    value = gsplat_objective.depth_loss(summed / covered, covered, tensor(measured), tensor(tolerance))
    value.backward()
    assert float(value) == pytest.approx(expected, rel=1e-4)
    assert summed.grad is not None
    assert covered.grad is not None
    np.testing.assert_allclose(summed.grad.numpy(), by_planes[3], atol=1e-3 * np.abs(by_planes[3]).max())
    np.testing.assert_allclose(-covered.grad.numpy(), by_passing, atol=1e-3 * np.abs(by_passing).max())


def plane(normal: list[float], distance: float = 2.0) -> np.ndarray:
    """Depth of a plane n x = d before the camera."""
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    rays = np.stack([(columns - LENS[0, 2]) / LENS[0, 0], (rows - LENS[1, 2]) / LENS[1, 1], np.ones_like(rows)], -1)
    return distance / (rays @ np.array(normal))


def normals_apart(a: np.ndarray, b: np.ndarray, alpha: float = 1.0) -> float:
    opaque = torch.full((HEIGHT, WIDTH), alpha)
    return float(gsplat_objective.normal_loss(tensor(a), opaque, tensor(b), tensor(LENS)))


def test_normal_loss_is_the_angle_between_planes():
    """Nothing between equal ones at any distance; between others one minus the cosine."""
    rotated = [np.sin(0.3), 0.0, np.cos(0.3)]
    assert normals_apart(plane([0, 0, 1]), plane([0, 0, 1], 2.6)) < 1e-6
    assert normals_apart(plane(rotated), plane([0, 0, 1])) == pytest.approx(1 - np.cos(0.3), abs=5e-3)
    assert normals_apart(plane(rotated), plane([0, 0, 1]), alpha=0.01) == 0


def test_normal_loss_leaves_out_what_is_unknown():
    """Half of the depth missing, and a jump: neither counts, and no derivative is NaN."""
    rotated, straight = plane([np.sin(0.3), 0.0, np.cos(0.3)]), plane([0, 0, 1])
    whole = normals_apart(rotated, straight)
    missing = straight.copy()
    missing[:, : WIDTH // 2] = 0
    assert 0.3 * whole < normals_apart(rotated, missing) < 0.5 * whole
    jump = straight.copy()
    jump[:, WIDTH // 2 :] += 1
    assert normals_apart(jump, jump) < 1e-6
    given = tensor(rotated, grad=True)
    gsplat_objective.normal_loss(given, torch.ones(HEIGHT, WIDTH), tensor(missing), tensor(LENS)).backward()
    assert given.grad is not None
    assert torch.isfinite(given.grad).all()
    assert given.grad.abs().max() > 0


def test_tiny_images_have_no_normals():
    """A quarter of a thumbnail."""
    flat = torch.ones(8, 10)
    assert float(gsplat_objective.normal_loss(flat, flat, flat, tensor(LENS))) == 0


def view_of(rng: np.random.Generator, device: str, shift: float = 0.0) -> dict[str, torch.Tensor]:
    """A masked view with depth, and what was drawn of it; the rest is in main memory."""
    photo = torch.tensor(rng.integers(0, 255, (3, HEIGHT, WIDTH)).astype(np.uint8))
    depth = tensor(plane([np.sin(0.3), 0.0, np.cos(0.3)]))
    image = photo.movedim(0, -1) / 255 + tensor(rng.normal(shift, 0.05, (HEIGHT, WIDTH, 3)))
    return {
        "drawn": torch.cat([image, depth[..., None] * 1.02], 2).to(device),
        "alpha": tensor(rng.uniform(0.5, 1, (HEIGHT, WIDTH))).to(device),
        "gain": tensor(np.array([0.9, 1.0, 1.1])),
        "intrinsics": tensor(LENS),
        "photo": photo,
        "depth": depth,
        "tolerance": torch.full((HEIGHT, WIDTH), 0.01),
        "mask": torch.tensor(rng.random((HEIGHT, WIDTH)) < 0.9),
    }


def test_objective_finds_the_exposure_that_the_cpu_trainer_does(rng):
    """By sums alone."""
    given = view_of(rng, "cpu", -0.1)
    found = gsplat_objective.Objective(0.2, 0.5, 0.05)(given)
    ours, theirs = (Exposures(np.ones((1, 3), np.float32)) for _ in range(2))
    ours.learn(0, *found.exposure.numpy())
    image = given["drawn"][..., :3].movedim(-1, 0).numpy()
    theirs.observe(0, image, given["photo"].numpy(), given["mask"].numpy())
    np.testing.assert_allclose(ours.gains, theirs.gains, rtol=1e-5)
    assert (np.abs(ours.gains - 1) > 0.01).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_objective_is_the_one_computed_step_by_step(rng):
    """For views after the recorded one, of another kind in between, too."""
    weights = (0.2, 0.5, 0.05)
    recorded, plain = gsplat_objective.Objective(*weights), gsplat_objective.Objective(*weights)
    for number in range(5):
        given = view_of(rng, "cuda", 0.1 * number)
        if number == 2:
            given = {name: part for name, part in given.items() if name not in ("depth", "tolerance", "mask")}
            given["drawn"] = given["drawn"][..., :3]
        found = recorded(given)
        expected = plain({name: part.cpu() for name, part in given.items()})
        for name in ("gradient", "metrics", "exposure"):
            value, right = getattr(found, name).cpu(), getattr(expected, name)
            torch.testing.assert_close(value, right, rtol=1e-3, atol=1e-3 * float(right.abs().max()))
