"""Gravity from an IMU that moves.

Specific force is what gravity and the motion's acceleration leave together: f = R_imu_from_world (a - g) + bias.
Rotated into the world and averaged over a while, most of the acceleration cancels; what is left follows from the
trajectory, if it is known, by the same average of its own acceleration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.geometry import Pose
from pipeline.types import F64

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

GRAVITY = 9.80665
BIAS_SIGMA = 0.1
"""One sigma of an accelerometer's bias on each axis [m/s^2], of what robots carry."""
PHONE_BIAS_SIGMA = 0.04
"""The same of phones, which are calibrated."""
MOUNTING_SIGMA_DEG = 0.2
"""How well the IMU's axes are known to those of the poses [deg]; it acts as a bias does."""
MIN_SIGMA_DEG = 0.1
"""Smallest sigma [deg]: clocks, scale factors and the poses' own filter are never perfect."""
WINDOW = 2.0
"""Length of an average [s]: four steps of a person."""
MIN_WINDOW, MIN_WINDOWS, MIN_READINGS = 0.15, 4, 10
MAX_GAP, MAX_POSE_GAP = 0.06, 0.2
"""Longest gaps of readings and of poses in an average, by its length."""
WORST_SIGMA_DEG = 3.0
"""Largest useful sigma [deg]: the way people hold cameras tells as much."""
MAX_FORCE = 1000.0
"""Mean specific force of a window that nothing carried by hand or by a robot has [m/s^2]."""
OFF_GRAVITY = 0.35
"""Largest deviation of the averages' magnitude from gravity [m/s^2]: a bias of three sigmas."""
UNLIKE = 0.5
"""Largest deviation of the trajectory's rotations from the gyroscope's (rms, relative)."""
MIN_TURN, MIN_RATE = 0.05, 0.4
"""Rotation rate from which on the two are compared [rad/s], and the longest time between poses for it [s]."""
OFFSETS = np.arange(-1.0, 1.001, 0.02)
"""Offsets of the IMU's clock that are tried [s]."""
NOTED_OFFSET = 0.01
SURE_OFFSET = 1.25
"""Factor by which the gyroscope must fit better with an offset than without."""
ALIKE_PARTS = 4
"""Parts of a recording whose averages are compared: a world that slowly tilts errs alike for long."""
ALONE_WINDOW = 4.0
"""Length of an average where no trajectory gives the acceleration [s]."""
ALONE_SIGMA_DEG = 0.8
"""One sigma of all such averages together [deg]: a person starts, stops and walks round corners; the bias stays."""


@dataclass(frozen=True, eq=False)
class ImuReadings:
    """Readings of an IMU, by `imu_readings`; `usable` if they have gravity's magnitude at all.

    Attributes:
        times: (N,) increasing [s].
        force: (N, 3) specific force in the IMU's axes [m/s^2]: points up at rest.
        rotation_rate: (N, 3) [rad/s].
    """

    times: F64
    force: F64
    rotation_rate: F64
    note: str | None
    usable: bool

    def rotated(self, rotation: F64) -> ImuReadings:
        """In the axes of a frame (3, 3 `frame_from_imu`) that is fixed to the IMU."""
        return ImuReadings(self.times, self.force @ rotation.T, self.rotation_rate @ rotation.T, self.note, self.usable)


def imu_readings(times: F64, force: F64, rotation_rate: F64) -> ImuReadings:
    """Readings of times (N,) in any order, without those that aren't finite or repeat a time; [g] becomes [m/s^2]."""
    finite = np.isfinite(times) & np.isfinite(force).all(1) & np.isfinite(rotation_rate).all(1)
    at, first = np.unique(times[finite], return_index=True)
    force, rotation_rate = force[finite][first], rotation_rate[finite][first]
    size = float(np.median(np.linalg.norm(force, axis=1))) if len(at) else 0.0
    scale = GRAVITY if 0.9 < size < 1.1 else 1.0
    usable, note = bool(8.8 < size * scale < 10.8), None
    if not usable:
        note = f"IMU not used: its readings have a median of {size:.3g} m/s^2 instead of 9.8"
    elif scale != 1.0:
        note = "IMU readings are in g: taken times 9.80665"
    return ImuReadings(at, force * scale, rotation_rate, note, usable)


@dataclass(frozen=True, eq=False)
class Up:
    """Up direction (3,) of a world, measured by an IMU, with one sigma of it on each axis."""

    direction: F64
    sigma_deg: float
    note: str


def up_while_moving(
    readings: ImuReadings, times: F64, world_from_imu: Rotation, positions: F64, bias_sigma: float = BIAS_SIGMA
) -> Up | str | None:
    """The up direction of a world in which an IMU moved along a known trajectory.

    A text says why the readings can't be used; None where poses or readings are too few or too far apart.

    Each window's average of the specific force, less the same average of the trajectory's acceleration, is gravity's
    counter-force and the rotated bias. All windows together give both by robust least squares; sigma is from what they
    leave, from what the bias may be, and from how well the axes are known.

    Times (M,) of the poses are increasing, by the IMU's clock [s]; positions (M, 3) are in [m], one sigma of the
    accelerometer's bias on each axis in [m/s^2].
    """
    from scipy.spatial.transform import Rotation, Slerp

    if not readings.usable:
        return readings.note or "IMU not used"
    if len(times) < MIN_READINGS:
        return None
    compared = _compare_rotations(readings, times, world_from_imu)
    if compared is not None and compared[1] > UNLIKE:
        return (
            f"IMU not used: by its gyroscope {compared[1]:.0%} of the trajectory's rotations differ "
            "(other axes, another unit or another clock)"
        )
    late = compared[0] if compared else 0.0
    inside = (readings.times + late > times[0]) & (readings.times + late < times[-1])
    if inside.sum() < MIN_READINGS:
        return None
    at, force, rate = readings.times[inside] + late, readings.force[inside], readings.rotation_rate[inside]
    rotations = Slerp(times, world_from_imu)(at)
    if compared is not None:  # between two poses the gyroscope gives the rotation, to first order and without its bias
        integral = _integral(at, rate)
        uneven = integral - _interpolated(at, times, _interpolated(times, at, integral))
        rotations = rotations * Rotation.from_rotvec(uneven)
    length = float(np.clip((at[-1] - at[0]) / 4, MIN_WINDOW, WINDOW))
    sums, means = _averages(at, force, rotations, times, positions, length)
    if not (np.abs(sums) < MAX_FORCE).all():  # NaN is no number of that size either
        return f"IMU not used: it or its biases give forces beyond {MAX_FORCE:.0f} m/s^2"
    return _solve(sums, means, bias_sigma, late) if len(sums) >= MIN_WINDOWS else None


def _compare_rotations(readings: ImuReadings, times: F64, rotations: Rotation) -> tuple[float, float] | None:
    """Delay of the IMU's clock [s], and deviation of the poses' rotations from the gyroscope's; None without one.

    The poses' rotations are fitted as a linear map of the gyroscope's, which should be the identity: noise of the poses
    and a constant bias don't count, other axes, units or clocks do.
    """
    from scipy.spatial.transform import Slerp

    step = max(0.1, float(np.median(np.diff(times))))
    grid = np.arange(times[0], times[-1], step)
    gaps = np.diff(times)[np.clip(np.searchsorted(times, (grid[1:] + grid[:-1]) / 2) - 1, 0, len(times) - 2)]
    poses = Slerp(times, rotations)(grid)
    by_poses, integral = (poses[:-1].inv() * poses[1:]).as_rotvec(), _integral(readings.times, readings.rotation_rate)

    def rotations_at(late: float) -> tuple[F64, F64]:
        """Both kinds of rotations where both are known, less their means."""
        between = (grid[1:] + grid[:-1]) / 2 - late
        after = np.searchsorted(readings.times, between)
        inside = (after > 0) & (after < len(readings.times)) & (gaps < 2 * step)
        after = np.clip(after, 1, len(readings.times) - 1)
        inside &= readings.times[after] - readings.times[after - 1] < step
        own = np.diff(_interpolated(grid - late, readings.times, integral), axis=0)[inside]
        if len(own) < MIN_READINGS:
            return own[:0], own[:0]
        return own - own.mean(0), by_poses[inside] - by_poses[inside].mean(0)

    if step > MIN_RATE or len(readings.times) < MIN_READINGS:
        return None
    misfits = [float(np.mean((own - other) ** 2)) if len(own) else np.inf for own, other in map(rotations_at, OFFSETS)]
    best, none = int(np.argmin(misfits)), len(OFFSETS) // 2
    late = 0.0
    if 0 < best < len(OFFSETS) - 1 and misfits[none] > SURE_OFFSET**2 * misfits[best]:
        before, now, after = misfits[best - 1 : best + 2]
        late = float(OFFSETS[best] + (OFFSETS[1] - OFFSETS[0]) * (before - after) / (2 * (before - 2 * now + after)))
    own, other = rotations_at(late)
    size = float(np.sqrt(np.mean(np.sum(own**2, 1)))) if len(own) else 0.0
    if size < MIN_TURN * step:
        return None
    product = own.T @ own
    unlike = np.linalg.solve(product + 1e-3 * np.trace(product) * np.eye(3), own.T @ (other - own))
    return late, float(np.sqrt(np.mean(np.sum((own @ unlike) ** 2, 1)))) / size


def _averages(at: F64, force: F64, rotations: Rotation, times: F64, positions: F64, length: float) -> tuple[F64, F64]:
    """Force less acceleration in the world (K, 3) and mean rotation (K, 3, 3) of each of K windows.

    Positions are joined by straight lines, whose acceleration is the change of slope at each pose: so the average of
    it needs no derivative of the poses.
    """
    in_world, matrices = rotations.apply(force), rotations.as_matrix()
    step = np.gradient(at)
    bends = np.diff(np.diff(positions, axis=0) / np.diff(times)[:, None], axis=0)  # at times[1:-1]
    sums, means = [], []
    start, stop = max(at[0], times[0]) + length / 2, min(at[-1], times[-1]) - length / 2
    for middle in np.arange(start, stop + 1e-9, length / 2):
        first, last = np.searchsorted(at, [middle - length / 2, middle + length / 2])
        begin, end = np.searchsorted(times, [middle - length / 2, middle + length / 2])
        if last - first < 6 or end - begin < 5 or _gap(at[first:last], middle, length) > MAX_GAP * length:
            continue
        if _gap(times[begin:end], middle, length) > MAX_POSE_GAP * length:
            continue
        weights = _kernel(at[first:last], middle, length) * step[first:last]
        weights /= weights.sum()
        begin, end = max(begin, 1), min(end, len(times) - 1)
        acceleration = _kernel(times[begin:end], middle, length) @ bends[begin - 1 : end - 1]
        sums.append(weights @ in_world[first:last] - acceleration)
        means.append(np.einsum("n,nij->ij", weights, matrices[first:last]))
    return np.array(sums).reshape(-1, 3), np.array(means).reshape(-1, 3, 3)


def _solve(sums: F64, means: F64, bias_sigma: float, late: float) -> Up | str:
    count = len(sums)
    design = np.concatenate(
        [np.tile(np.eye(3), (count, 1, 1)), means], 2
    )  # counter-force in the world, bias in the IMU
    bias_sigma = float(np.hypot(bias_sigma, GRAVITY * np.deg2rad(MOUNTING_SIGMA_DEG)))
    prior = np.diag([0.0, 0, 0, *[bias_sigma**-2] * 3])
    weights, sigma, found = np.ones(count), 1.0, np.zeros(6)
    left = sums
    for _ in range(15):
        trust = weights / (sigma**2 * _alike(left)) if found.any() else weights
        normal = np.einsum("n,nij,nik->jk", trust, design, design) + prior
        found = np.linalg.solve(normal, np.einsum("n,nij,ni->j", trust, design, sums))
        left = sums - design @ found
        size = np.linalg.norm(left, axis=1)
        sigma = max(float(np.median(size)) / 1.54, 1e-3)  # of a normal distribution in space
        weights = np.minimum(1, 2.5 * sigma / np.maximum(size, 1e-12))  # Huber's
    spread = np.sum(weights[:, None] * left**2) / (3 * weights.sum()) * count / max(count - 2, 1)
    normal = np.einsum("n,nij,nik->jk", weights, design, design) / (spread * _alike(left)) + prior
    up, strength = found[:3] / np.linalg.norm(found[:3]), float(np.linalg.norm(found[:3]))
    if abs(strength - GRAVITY) > OFF_GRAVITY + 3 * np.sqrt(spread / count):
        return (
            f"IMU not used: rotated by the poses its mean is {strength:.2f} m/s^2 instead of 9.81 "
            "(other axes, another unit or clock, or gravity taken out)"
        )
    horizontal = np.linalg.svd(up[None])[2][1:]
    variance = np.linalg.inv(normal)[:3, :3] / strength**2
    measured = np.rad2deg(np.sqrt(np.trace(horizontal @ variance @ horizontal.T) / 2))
    strained = max(1.0, float(np.sqrt(np.mean(found[3:] ** 2))) / bias_sigma)  # what drifts may be taken for a bias
    sigma_deg = float(np.hypot(measured * strained, MIN_SIGMA_DEG))
    if sigma_deg > WORST_SIGMA_DEG:
        off = f"one sigma {sigma_deg:.1f} degrees"
        return f"IMU not used: its averages contradict each other, {off} (other axes, another unit or another clock)"
    note = f"gravity from {count} windows of the IMU while moving, one sigma {sigma_deg:.2f} degrees"
    clock = f"; its clock is {1000 * abs(late):.0f} ms {'behind' if late > 0 else 'ahead'}, by the gyroscope"
    return Up(up, sigma_deg, note + (clock if abs(late) > NOTED_OFFSET else ""))


def _alike(left: F64) -> float:
    """Ratio of the variance between long stretches to that of independent windows: more in a slowly tilting world."""
    if len(left) < 4 * ALIKE_PARTS:
        return 1.0
    parts = np.array_split(left, ALIKE_PARTS)
    between = np.mean([len(part) * np.mean(part.mean(0) ** 2) for part in parts])
    return max(1.0, float(between * ALIKE_PARTS / (ALIKE_PARTS - 1) / max(np.mean(left**2), 1e-12)))


class FrameGravity:
    """Gravity in a camera's axes, frame by frame: by the whole trajectory where it is known, else by the IMU alone.

    Without a trajectory the gyroscope holds an average of the specific force together while the camera rotates. The
    change of the velocity in that time remains: a degree or two a frame, less together.

    The readings are in the camera's axes, `up` is `up_while_moving` of the world of the frames' poses. All frames share
    one sigma `sigma_deg`; it is None where there is no gravity.
    """

    def __init__(self, readings: ImuReadings, up: Up | str | None) -> None:
        from scipy.spatial.transform import Rotation

        self._up = up if isinstance(up, Up) else None
        self.usable = readings.usable and len(readings.times) >= MIN_READINGS and not isinstance(up, str)
        self._readings = readings
        self.sigma_deg = None
        self.note = up if isinstance(up, str) else readings.note or "IMU not used: too few readings"
        if not self.usable:
            return
        alone = "gravity from averages of the IMU while moving, without a trajectory to tell accelerations apart"
        self.sigma_deg = self._up.sigma_deg if self._up else ALONE_SIGMA_DEG
        self.note = "; ".join(filter(None, [readings.note, self._up.note if self._up else alone]))
        if self._up is None:
            rate, at = readings.rotation_rate, readings.times
            self._start_from_camera = _products(Rotation.from_rotvec((rate[1:] + rate[:-1]) / 2 * np.diff(at)[:, None]))
            self._force, self._step = self._start_from_camera.apply(readings.force), np.gradient(at)

    def at(self, time: float, world_from_camera: Pose | None) -> F64 | None:
        """Unit direction (3,) at a time by the IMU's clock [s], or None where it is unknown."""
        if not self.usable:
            return None
        if self._up is not None:
            return None if world_from_camera is None else world_from_camera.inverse().rotate(-self._up.direction)
        at, length = self._readings.times, ALONE_WINDOW
        first, last = np.searchsorted(at, [time - length / 2, time + length / 2])
        if last - first < MIN_READINGS or _gap(at[first:last], time, length) > MAX_GAP * length:
            return None
        weights = _kernel(at[first:last], time, length) * self._step[first:last]
        mean = weights @ self._force[first:last] / weights.sum()
        if abs(np.linalg.norm(mean) - GRAVITY) > OFF_GRAVITY:
            return None
        now = min(int(np.searchsorted(at, time)), len(at) - 1)
        return self._start_from_camera[now].apply(-mean / np.linalg.norm(mean), inverse=True)


def _products(steps: Rotation) -> Rotation:
    """Running products (N + 1) of rotations, the first the identity; in log(N) rounds of all at once."""
    from scipy.spatial.transform import Rotation

    total = np.concatenate([np.array([[0, 0, 0, 1.0]]), steps.as_quat()])
    shift = 1
    while shift < len(total):
        product = Rotation.from_quat(total[:-shift]) * Rotation.from_quat(total[shift:])
        total = np.concatenate([total[:shift], product.as_quat()])
        shift *= 2
    return Rotation.from_quat(total)


def _kernel(at: F64, middle: float, length: float) -> F64:
    """Weights that add up to one over time: smooth to the fourth order at both ends."""
    return 8 / (3 * length) * np.cos(np.pi * np.clip((at - middle) / length, -0.5, 0.5)) ** 4


def _gap(at: F64, middle: float, length: float) -> float:
    """Longest time without a sample in a window; its ends hardly count [s]."""
    ends = np.concatenate([[middle - 0.4 * length], at, [middle + 0.4 * length]])
    return float(np.diff(ends).max())


def _integral(at: F64, values: F64) -> F64:
    """Integral (N, 3) of values (N, 3) over time, from the first on."""
    parts = (values[1:] + values[:-1]) / 2 * np.diff(at)[:, None]
    return np.concatenate([np.zeros((1, 3)), np.cumsum(parts, axis=0)])


def _interpolated(times: F64, at: F64, values: F64) -> F64:
    return np.stack([np.interp(times, at, column) for column in values.T], 1)
