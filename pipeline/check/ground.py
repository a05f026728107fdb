"""What a robot stands on: holes in the floor, surfaces in free space, and bodies dropped onto the collision mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from pipeline.check.gates import Measured, rounded
from pipeline.check.scene import CheckedScene
from pipeline.check.settle import TIME_STEP, world_on
from pipeline.constants import GRAVITY
from pipeline.geometry import Gaussians, Mesh, masks
from pipeline.geometry.rays import RayCaster, sample_surface
from pipeline.mesh.clean import camera_path
from pipeline.regions.regions import AN_OBJECT, Regions
from pipeline.types import F64, Floats, Mask

NO_FLOOR = "there is no walkable floor"
NO_TRACK = "the imported files don't say where cameras went"

FINE_CELL = 0.02  # [m]
DROP = 0.05  # [m] below the expected floor that still is the floor
HEADROOM = 0.5  # [m] above the expected floor up to which a surface closes it
FOOTPRINT = 0.3  # [m] round a walkable cell that a robot stands on
GAP = 0.3  # [m] openings of the walkable region up to this width belong to it


def ground_gates(scene: CheckedScene) -> dict[str, Measured]:
    """Walkable floor, its holes, floaters, and the drop test."""
    regions, walkable = scene.regions, scene.regions.walkable_area > 0
    alone = regions.note == AN_OBJECT
    holes, drop = measure_floor_holes(scene.collision, regions), drop_bodies(scene.collision, regions)
    dropped, half = drop.dropped > 0, drop.dropped // 2
    how = f"{half} spheres of 12 cm, {half} boxes of 10 cm, in PhysX, until they rest" if dropped else NO_FLOOR
    return {
        "walkable": Measured(
            regions.walkable_area,
            "where the robot's footprint fits and steps are low enough" if not alone else AN_OBJECT,
            not alone,
            {"spawn_poses": len(regions.spawn_poses)},
        ),
        "floor_holes": Measured(
            holes.hole_area if walkable else None,
            "rays from above on a 2 cm grid" if walkable else NO_FLOOR,
            walkable,
            {
                "largest_diameter_m": rounded(holes.largest_diameter),
                "guessed_area_m2": rounded(holes.guessed_area),
                "expected_area_m2": rounded(holes.expected_area),
            },
        ),
        "floaters": _floater_gate(scene),
        "drop_test": Measured(
            drop.fell_through + drop.thrown_out if dropped else None,
            how,
            dropped,
            {"fell_through": drop.fell_through, "thrown_out": drop.thrown_out},
        ),
        "drop_height": Measured(
            drop.largest_error,
            how,
            dropped,
            {"median": rounded(drop.median_error), "off_by_more_than_2_cm": drop.off_height},
        ),
    }


def _floater_gate(scene: CheckedScene) -> Measured:
    if not len(scene.track):
        return Measured(None, NO_TRACK, applies=False)
    floaters = measure_floaters(scene.mesh, scene.splat, scene.track)
    return Measured(
        floaters.area,
        f"area within 15 cm of {floaters.path_length:.1f} m of camera track",
        detail={"triangles": floaters.triangles, "opaque_gaussians": floaters.gaussians},
    )


@dataclass(frozen=True)
class FloorHoles:
    """How whole the floor is that a robot may walk on."""

    expected_area: float  # floor under a robot on the walkable region, with what it encloses [m^2]
    hole_area: float  # part of it without any surface to stand on [m^2]
    largest_diameter: float  # diameter of the largest circle in a hole [m]: what could fall through
    guessed_area: float  # part of the expected area that was closed by a guess [m^2]


@dataclass(frozen=True, eq=False)
class ProbedFloor:
    """The floor that a robot expects, on a fine grid, and where it is missing."""

    expected: Mask  # (X, Y) bool, walkable region and what it encloses
    holes: Mask  # (X, Y) bool, expected cells without a surface to stand on
    positions: F64  # (X, Y, 3) the cells' centres at the expected floor's height [m]
    step: float  # edge of a cell [m]


def measure_floor_holes(collision: Mesh, regions: Regions) -> FloorHoles:
    """How much of the walkable region and what it encloses has no floor to stand on."""
    probed = probe_floor(collision, regions)
    largest = float(masks.distance_from(~probed.holes).max()) if probed.holes.any() else 0.5
    region = enclosed_region(regions)
    return FloorHoles(
        expected_area=float(probed.expected.sum() * probed.step**2),
        hole_area=float(probed.holes.sum() * probed.step**2),
        largest_diameter=2 * (largest - 0.5) * probed.step,
        guessed_area=float((region & regions.guessed).sum() * regions.cell**2),
    )


def enclosed_region(regions: Regions) -> Mask:
    """The floor (X, Y) under a robot's footprint on the walkable cells, narrow gaps in it and all that it encloses."""
    footprint = masks.distance_from(regions.walkable) * regions.cell <= FOOTPRINT
    return masks.without_holes(masks.closed(footprint & np.isfinite(regions.height), GAP / regions.cell))


def probe_floor(collision: Mesh, regions: Regions) -> ProbedFloor:
    """Look for the floor by vertical lines on a 2 cm grid over the walkable region and everything that it encloses.

    A cell is whole when an upward surface lies at most 5 cm below the expected floor and at most half a metre above
    it, or when it lies inside an object: the next surface over that range faces up. Where the region has no floor, it
    is expected at the height of the nearest cell with one. Holes that reach the region's outer edge don't count.
    """
    region = enclosed_region(regions)
    if not region.any():
        empty = np.zeros(region.shape, bool)
        return ProbedFloor(empty, empty, np.zeros((*region.shape, 3)), regions.cell)
    nearest = masks.nearest_marked(np.isfinite(regions.height))
    height = masks.lowest_around(regions.height[tuple(nearest)].astype(np.float64))  # next to a step the lower counts
    fine = max(1, round(regions.cell / FINE_CELL))
    step = regions.cell / fine
    expected = region.repeat(fine, 0).repeat(fine, 1)
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * step for n in expected.shape), indexing="ij")
    floor = height.repeat(fine, 0).repeat(fine, 1)
    positions = np.stack([x + regions.origin[0], y + regions.origin[1], floor], -1)
    below = positions[expected] - np.array([0, 0, DROP])
    ray, distance, triangle = RayCaster(collision).all_hits(below, np.array([0, 0, 1.0]))
    upward = collision.face_normals()[triangle, 2] > 0
    whole = np.zeros(len(below), bool)
    whole[ray[upward & (distance < DROP + HEADROOM)]] = True
    over = distance >= DROP + HEADROOM
    next_ray, next_hit = np.unique(ray[over], return_index=True)  # sorted by distance: the first is the nearest
    whole[next_ray[upward[over][next_hit]]] = True
    holes = np.zeros(expected.shape, bool)
    holes[expected] = ~whole
    numbers, count = masks.parts(holes)
    open_ended = np.zeros(count + 1, bool)
    open_ended[numbers[masks.grown(~expected)]] = True  # the outer edge of the floor is no hole
    return ProbedFloor(expected, holes & ~open_ended[numbers], positions, step)


PATH_RADIUS = 0.15  # [m] round the camera's path
SAMPLE_AREA = 1e-4  # [m^2] of mesh per sample
OPAQUE = 0.5


@dataclass(frozen=True)
class Floaters:
    """What lies in the tube round the camera's path."""

    path_length: float  # length of the tube [m]
    triangles: int  # triangles that reach into it
    area: float  # area of mesh inside it [m^2]
    gaussians: int  # number of centres of Gaussians of opacity over 0.5 inside it


def measure_floaters(mesh: Mesh, gaussians: Gaussians, track: Floats) -> Floaters:
    """Count what lies within 15 cm of the path of the camera centres (N, 3) in capture order [m, world]."""
    path, length = camera_path(track)
    tree = KDTree(path)
    triangles, area = 0, 0.0
    if len(mesh.triangles):
        low, high = path.min(0) - PATH_RADIUS, path.max(0) + PATH_RADIUS
        corners = mesh.corners()
        touching = ((corners.max(1) >= low) & (corners.min(1) <= high)).all(1)
        near = mesh.with_faces(touching)
        count = int(np.clip(near.face_areas().sum() / SAMPLE_AREA, 1000, 2_000_000)) if touching.any() else 0
        points, owner = sample_surface(near, count, np.random.default_rng(0))
        inside = np.isfinite(tree.query(points, distance_upper_bound=PATH_RADIUS)[0])
        centres = near.corners().mean(1)
        centred = np.isfinite(tree.query(centres, distance_upper_bound=PATH_RADIUS)[0])
        triangles = len(np.union1d(owner[inside], np.flatnonzero(centred)))
        area = float(inside.sum() / max(count, 1) * near.face_areas().sum())
    inside = np.isfinite(tree.query(gaussians.means, distance_upper_bound=PATH_RADIUS)[0])
    return Floaters(length, triangles, area, int((gaussians.opacities[inside] > OPAQUE).sum()))


SPHERE_RADIUS = 0.06  # [m] of the spheres
HALF_EDGE = 0.05  # [m] of the boxes
DROP_HEIGHT = 0.35  # [m] of a body's lowest point over the floor
SECONDS = 3.0  # what moves still, such as a ball on the edge of a step, gets as long again
STILL = 0.05  # [m/s]
LOOK_EVERY = 5  # steps
THROWN = 0.05  # [m] of height worth of energy that a body may gain from the contact solver
TOLERANCE = 0.02  # [m] of the resting height
CORNER_TOLERANCE = 0.002  # [m] between corners of a box that it stands on
ROLLED = 0.15  # [m] away from where it was dropped
FALLEN = 0.1  # [m] below the floor: through it
DROPS = 500  # spheres, and as many boxes
HOLE_DROPS = 100  # at most
HOLE_STRIDE = 7  # every how many fine cells of a hole one gets a sphere and a box
GOLDEN_ANGLE = 2.39996  # [rad] from one box's heading to the next one's
ANGULAR_DAMPING = 20.0  # spheres roll on the least slope; this stands in for rolling friction


@dataclass(frozen=True)
class DropTest:
    """What became of the bodies; errors are None when all fell through."""

    dropped: int  # number of bodies; half of them are boxes
    fell_through: int  # number that end below the floor, or left the scene
    thrown_out: int  # number that gained energy at some moment: the contact with the mesh pushed them away
    off_height: int  # number that rest more than 2 cm off the height map
    over_holes: int  # number dropped over holes that the walkable region encloses
    median_error: float | None  # median absolute error of the resting heights [m]
    largest_error: float | None  # largest one of those that didn't fall through [m]


def drop_bodies(collision: Mesh, regions: Regions) -> DropTest:
    """Simulate spheres of 6 cm radius and boxes of 10 cm edge over an even grid of walkable cells, in PhysX, to rest.

    They get 3 s, and those that still move 3 more. They do not touch each other. PhysX's triangles carry from their
    front only, so a wrongly oriented mesh fails as a robot would on it.
    """
    # over the floor, and over the widest parts of holes, which the walkable region itself keeps off
    probed = probe_floor(collision, regions)
    room = masks.distance_from(~probed.holes) * probed.step
    cells = np.argwhere(room > SPHERE_RADIUS)[::HOLE_STRIDE][:HOLE_DROPS]
    over_floor, over_holes = _starts(regions), probed.positions[tuple(cells.T)] + np.array([0, 0, DROP_HEIGHT])
    points = np.concatenate([over_floor, over_holes])
    if not len(points):
        return DropTest(0, 0, 0, 0, 0, None, None)
    bottoms, is_box = np.concatenate([points, points]), np.arange(2 * len(points)) >= len(points)
    starts = bottoms + np.where(is_box, HALF_EDGE, SPHERE_RADIUS)[:, None] * [0, 0, 1]
    centres, rotations, energy = _simulate(collision, starts, is_box)
    # what a body may stand on (N, 8, 3): a box's corners, a sphere's lowest point
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3, indexing="ij"), -1).reshape(-1, 3)
    corners = centres[:, None] + HALF_EDGE * np.einsum("nij,kj->nki", rotations, signs)
    feet = np.where(is_box[:, None, None], corners, centres[:, None] - [0, 0, SPHERE_RADIUS])
    lowest = np.take_along_axis(feet, feet[:, :, 2].argmin(1)[:, None, None], 1)[:, 0]
    # a body on a step's edge may rest on either side's floor, with any of its lowest corners; a ball touches it beside
    heights = _floor_below(feet.reshape(-1, 3), regions).reshape(*feet.shape[:2], -1)
    errors = np.abs(feet[:, :, 2, None] - heights).min(2, initial=np.inf)
    error = np.where(feet[:, :, 2] < lowest[:, 2, None] + CORNER_TOLERANCE, errors, np.inf).min(1)
    rolled = np.linalg.norm((centres - starts)[:, :2], axis=1) > ROLLED  # down a stair: it may lean on a front
    gap = np.abs(RayCaster(collision).distances(np.where(is_box[:, None], lowest, centres)))
    error[rolled] = np.minimum(error, np.abs(gap - np.where(is_box, 0, SPHERE_RADIUS)))[rolled]
    fell = ~(lowest[:, 2] > bottoms[:, 2] - DROP_HEIGHT - FALLEN)
    fell &= ~(error <= TOLERANCE)
    resting = error[~fell & np.isfinite(error)]
    return DropTest(
        dropped=len(starts),
        fell_through=int(fell.sum()),
        thrown_out=int((energy > starts[:, 2] + THROWN).sum()),
        off_height=int((error[~fell] > TOLERANCE).sum()),
        over_holes=2 * len(over_holes),
        median_error=float(np.median(resting)) if len(resting) else None,
        largest_error=float(resting.max()) if len(resting) else None,
    )


def _starts(regions: Regions) -> F64:
    """Up to 500 positions (N, 3) [m] from which to drop, evenly over the walkable cells."""
    cells = np.argwhere(regions.walkable)
    stride = max(1, int(np.sqrt(len(cells) / DROPS)))
    while len(chosen := cells[(cells % stride == stride // 2).all(1)]) < DROPS and stride > 1:
        stride -= 1
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(DROPS, len(chosen))).round().astype(int))]
    height = regions.height[tuple(chosen.T)].astype(np.float64)
    return np.column_stack([regions.centres()[tuple(chosen.T)], height + DROP_HEIGHT])


def _simulate(collision: Mesh, starts: F64, is_box: Mask) -> tuple[F64, F64, F64]:
    """Let bodies fall from centres (N, 3) [m]: their last centres, rotations, and highest energy (N,) [m of height]."""
    scene = world_on(collision)
    import sapien
    from sapien import physx

    material = physx.PhysxMaterial(1.0, 1.0, 0.0)
    holders, bodies = [], []
    for number, (start, box) in enumerate(zip(starts, is_box, strict=True)):
        body = physx.PhysxRigidDynamicComponent()
        if box:
            hull = physx.PhysxCollisionShapeBox([HALF_EDGE] * 3, material)
        else:
            hull = physx.PhysxCollisionShapeSphere(SPHERE_RADIUS, material)
            body.set_angular_damping(ANGULAR_DAMPING)
        hull.set_collision_groups([2, 1, 0, 0])  # touches the ground only
        body.attach(hull)
        holder = sapien.Entity()
        holder.add_component(body)
        half = number * GOLDEN_ANGLE / 2
        holder.set_pose(sapien.Pose(start.tolist(), [float(np.cos(half)), 0, 0, float(np.sin(half))]))
        scene.add_entity(holder)
        holders.append(holder)
        bodies.append(body)
    energy = starts[:, 2].copy()
    for step in range(round(2 * SECONDS / TIME_STEP)):
        scene.step()
        if step % LOOK_EVERY == 0:
            height = np.array([holder.pose.p[2] for holder in holders], np.float64)
            speed = np.array([body.linear_velocity for body in bodies], np.float64)
            energy = np.maximum(energy, height + (speed**2).sum(1) / (2 * GRAVITY))
            if step * TIME_STEP >= SECONDS and np.linalg.norm(speed, axis=1).max() < STILL:
                break
    centres = np.array([holder.pose.p for holder in holders], np.float64)
    rotations = np.array([holder.pose.to_transformation_matrix()[:3, :3] for holder in holders], np.float64)
    return centres, rotations, energy


def _floor_below(centres: F64, regions: Regions) -> F64:
    """Floor heights (N, K) [m] of the cells that a body at (N, 3) may rest on, inf where there is none."""
    index, _ = regions.cells_of(np.nan_to_num(centres, nan=1e6))
    reach = int(np.ceil(SPHERE_RADIUS / regions.cell))
    around = np.indices(2 * [2 * reach + 1]).reshape(2, -1).T - reach
    cells = index[:, None] + around
    inside = ((cells >= 0) & (cells < np.array(regions.height.shape))).all(-1)
    clipped = np.clip(cells, 0, np.array(regions.height.shape) - 1)
    height = regions.height[clipped[..., 0], clipped[..., 1]].astype(np.float64)
    return np.where(inside & np.isfinite(height), height, np.inf)
