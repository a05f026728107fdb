"""The kernels of PatchMatch against closed forms."""

import numpy as np

from pipeline.depth.local_planes import plane_normals
from pipeline.depth.patchmatch import (
    COST_CAP,
    WIDE_WINDOW,
    _plane_cost,
    _reference_patch,
    pack_texels,
    random_planes,
    upsample_planes,
)
from pipeline.depth.stereo_steps import pair_warp
from pipeline.geometry import Camera
from pipeline.poses.scene import read_image

CAMERA = Camera(16, 12, 20.0, 22.0, 7.0, 6.5)
INTRINSICS = np.array([20.0, 22.0, 7.0, 6.5], np.float32)


def plane_inverse_depth(camera: Camera, normal: np.ndarray, distance: float) -> np.ndarray:
    """Inverse depth (H, W) of the plane normal . X = distance."""
    return camera.rays() @ normal / distance


def test_texels_hold_the_two_by_two_neighbourhood():
    """Each byte is the pixel, its right, its lower and its diagonal neighbour; edges repeat."""
    gray = np.random.default_rng(0).integers(0, 256, (5, 7)).astype(np.uint8)
    padded = np.pad(gray, ((0, 1), (0, 1)), mode="edge")
    packed = pack_texels(gray).reshape(5, 7)
    for shift, expected in ((0, gray), (8, padded[:-1, 1:]), (16, padded[1:, :-1]), (24, padded[1:, 1:])):
        np.testing.assert_array_equal((packed >> shift) & 255, expected)


def test_upsampling_a_plane_is_exact():
    """Hypotheses on one plane stay on it, slopes in the finer pixels."""
    normal, distance = np.array([0.2, -0.3, 0.9]), 2.0
    coarse = np.zeros((4, 12, 16), np.float32)
    coarse[0] = plane_inverse_depth(CAMERA, normal, distance)
    coarse[1], coarse[2] = normal[0] / 20.0 / distance, normal[1] / 22.0 / distance
    fine_camera = CAMERA.resized(32, 24)
    fine = upsample_planes(coarse, 2)
    np.testing.assert_allclose(fine[0], plane_inverse_depth(fine_camera, normal, distance), rtol=1e-5)
    np.testing.assert_allclose(fine[1], normal[0] / 40.0 / distance, rtol=1e-6)


def test_plane_normals_are_those_of_the_plane():
    """The local plane's normal comes out, turned towards the camera."""
    normal = np.array([0.2, -0.3, 0.9]) / np.linalg.norm([0.2, -0.3, 0.9])
    inverse_depth = plane_inverse_depth(CAMERA, normal, 2.0).astype(np.float32)
    slope = np.ones_like(inverse_depth)
    found = plane_normals(CAMERA, inverse_depth, slope * normal[0] / 40, slope * normal[1] / 44)
    np.testing.assert_allclose(found, np.broadcast_to(-normal, found.shape), atol=1e-5)


def test_random_planes_repeat_and_stay_in_range():
    """Equal seeds give equal hypotheses, other seeds others, all within the range and spread over it."""
    nearest = np.array([0.2, 2.0], np.float32)
    planes = random_planes(60, 80, INTRINSICS, nearest, 3)
    np.testing.assert_array_equal(planes, random_planes(60, 80, INTRINSICS, nearest, 3))
    assert (planes != random_planes(60, 80, INTRINSICS, nearest, 4))[0].mean() > 0.99
    assert planes[0].min() >= 0.2
    assert planes[0].max() <= 2.0
    np.testing.assert_allclose(np.percentile(planes[0], [25, 50, 75]), [0.65, 1.1, 1.55], atol=0.05)


def test_a_cost_is_low_for_the_true_plane_and_ends_early_at_the_limit(views):
    """The mean over the three best views; once it can't stay below the limit, the limit comes back."""
    own, *others = views.scene.training[:5]
    gray = read_image(views.folder, own)[..., 1].copy()
    texels = np.concatenate([pack_texels(read_image(views.folder, other)[..., 1].copy()) for other in others])
    pose = own.camera, own.world_from_camera
    warps = np.array([pair_warp(*pose, other.camera, other.world_from_camera) for other in others], np.float32)
    layout = np.array([(i * gray.size, own.camera.width, own.camera.height) for i in range(4)], np.int64)
    depth = views.truth[own.name].depth
    patch, costs, ranked = (np.zeros(count, np.float32) for count in (32, 4, 4))

    def cost(x: int, y: int, w: float, limit: float) -> float:
        slopes = 1 / depth[y, x + 1] - 1 / depth[y, x], 1 / depth[y + 1, x] - 1 / depth[y, x]
        variance = _reference_patch(gray, x, y, WIDE_WINDOW, patch)
        found = _plane_cost(
            x, y, np.float32(w), *slopes, texels, layout, warps, warps, np.zeros(1, np.float32), np.float32(0), 15, 3,
            WIDE_WINDOW, patch, variance, costs, ranked, np.float32(limit),
        )  # fmt: skip
        return float(found)

    flat_spots = [(150, 60), (90, 110), (200, 150)]
    right = np.array([cost(x, y, 1 / depth[y, x], 1e9) for x, y in flat_spots])
    wrong = np.array([cost(x, y, 1.1 / depth[y, x], 1e9) for x, y in flat_spots])
    assert np.median(right) < 0.1
    assert np.median(wrong) > 0.3
    assert (wrong <= COST_CAP).all()
    for (x, y), full in zip(flat_spots, wrong, strict=True):
        assert cost(x, y, 1.1 / depth[y, x], full + 0.01) == full
        np.testing.assert_allclose(cost(x, y, 1.1 / depth[y, x], 0.05), 0.05, rtol=1e-6)
