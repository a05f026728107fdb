"""A small furnished room with exact truth: images and depth by ray casting, captures of every form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial import cKDTree

from pipeline.depth.maps import DepthMap
from pipeline.geometry import CV_FROM_GL, Camera, Mesh, Pose
from pipeline.poses.scene import PosedScene, SparsePoints, View

CAMERA = Camera(320, 240, 245.0, 243.0, 158.5, 121.5)
"""A phone-like camera, 66 degrees wide, not symmetric."""

SIZE = np.array([4.0, 3.0, 2.5])
TABLE_TOP, TABLE_LOW, TABLE_HIGH = 0.72, np.array([1.1, 1.9]), np.array([2.3, 2.6])

# (name, low corner, high corner, base colour); the room spans 0..SIZE, the floor is z = 0
BOXES = [
    ("crate", (3.2, 0.3, 0.0), (3.7, 0.9, 0.55), (150, 105, 60)),
    ("step 1", (0.0, 1.0, 0.0), (0.6, 1.8, 0.17), (120, 120, 130)),
    ("step 2", (0.0, 1.0, 0.17), (0.3, 1.8, 0.34), (135, 125, 115)),
    ("table top", (*TABLE_LOW, TABLE_TOP - 0.04), (*TABLE_HIGH, TABLE_TOP), (165, 120, 80)),
    ("leg 1", (1.15, 1.95, 0.0), (1.2, 2.0, TABLE_TOP - 0.04), (90, 70, 50)),
    ("leg 2", (2.2, 1.95, 0.0), (2.25, 2.0, TABLE_TOP - 0.04), (90, 70, 50)),
    ("leg 3", (1.15, 2.5, 0.0), (1.2, 2.55, TABLE_TOP - 0.04), (90, 70, 50)),
    ("leg 4", (2.2, 2.5, 0.0), (2.25, 2.55, TABLE_TOP - 0.04), (90, 70, 50)),
]
WALLS = [(170, 150, 130), (120, 160, 170), (180, 170, 120), (150, 130, 170), (140, 140, 140), (200, 200, 205)]


def box_faces(low: np.ndarray, high: np.ndarray, *, inward: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The 8 corners and 12 triangles of a box, seen counter-clockwise from outside (or inside)."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    return low + corners * (high - low), triangles[:, ::-1] if inward else triangles


@dataclass(frozen=True, eq=False)
class Room:
    """The room: exact mesh, and a texture that is a function of the place."""

    mesh: Mesh
    surface_of_triangle: np.ndarray
    _cells: cKDTree
    _cell_colors: np.ndarray

    @staticmethod
    def make(seed: int = 0) -> Room:
        """Build it; equal seeds give equal rooms."""
        rng = np.random.default_rng(seed)
        parts = [box_faces(np.zeros(3), SIZE, inward=True)]
        parts += [box_faces(np.array(low), np.array(high)) for _, low, high, _ in BOXES]
        vertices = np.concatenate([p[0] for p in parts])
        offsets = np.cumsum([0] + [len(p[0]) for p in parts[:-1]])
        triangles = np.concatenate([p[1] + o for p, o in zip(parts, offsets, strict=True)])
        surface = np.concatenate([np.arange(12) // 2, *(np.full(12, 6 + i) for i in range(len(BOXES)))])
        mesh = Mesh.from_arrays(vertices, triangles)
        area = mesh.face_areas()
        chosen = rng.choice(len(triangles), 6000, p=area / area.sum())
        weights = rng.dirichlet(np.ones(3), 6000)
        seeds = np.einsum("nk,nkc->nc", weights, mesh.corners()[chosen])
        base = np.array([*WALLS, *(b[3] for b in BOXES)], float)[surface[chosen]]
        colors = np.clip(base + rng.normal(0, 38, (6000, 3)), 8, 247)
        return Room(mesh, surface, cKDTree(seeds), colors)

    def render(self, camera: Camera, world_from_camera: Pose, samples: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """Exact image (H, W, 3) uint8 (samples x samples a pixel) and planar depth (H, W) float32 [m]."""
        if camera.width * camera.height > CAMERA.width * CAMERA.height:
            return self._rendered(camera, world_from_camera, samples)
        place = world_from_camera.rotation.tobytes(), world_from_camera.translation.tobytes()
        image, depth = _render(self, camera, *place, samples)
        return image.copy(), depth.copy()

    def _rendered(self, camera: Camera, world_from_camera: Pose, samples: int) -> tuple[np.ndarray, np.ndarray]:
        fine = camera.resized(camera.width * samples, camera.height * samples)
        position, _ = self.cast(fine, world_from_camera)
        color = self.color(position).reshape(camera.height, samples, camera.width, samples, 3).mean((1, 3))
        return color.round().astype(np.uint8), self.cast(camera, world_from_camera)[1]

    def color(self, points: np.ndarray) -> np.ndarray:
        """The texture's colours (..., 3) at points (..., 3) of surfaces, 0 to 255."""
        return self._cell_colors[self._cells.query(points, workers=2)[1]]

    def cast(self, camera: Camera, world_from_camera: Pose) -> tuple[np.ndarray, np.ndarray]:
        """Hit points (H, W, 3) [m, world] and planar depth (H, W) float32 of every pixel centre."""
        import open3d as o3d

        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(self.mesh.vertices, self.mesh.triangles.astype(np.uint32))
        directions = world_from_camera.rotate(camera.rays())  # z = 1 in the camera: the hit distance is the depth
        origin = np.broadcast_to(world_from_camera.translation, directions.shape)
        rays = np.concatenate([origin, directions], -1).astype(np.float32)
        depth = scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
        return origin + directions * depth[..., None], depth.astype(np.float32)


@lru_cache(maxsize=160)
def _render(
    room: Room, camera: Camera, rotation: bytes, translation: bytes, samples: int
) -> tuple[np.ndarray, np.ndarray]:
    """Captures of all formats are of the same walk; at most 90 MB."""
    return room._rendered(
        camera, Pose(np.frombuffer(rotation).reshape(3, 3).copy(), np.frombuffer(translation).copy()), samples
    )


def look_at(eye: np.ndarray, target: np.ndarray, roll_deg: float = 0.0) -> Pose:
    """World from camera of a camera at `eye` that looks at `target`, upright but for the roll."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = np.cos(np.deg2rad(roll_deg)), np.sin(np.deg2rad(roll_deg))
    return Pose(np.stack([c * right + s * down, -s * right + c * down, forward], 1), eye)


def walk(count: int) -> list[Pose]:
    """A hand-held loop through the room, looking across it; world from camera."""
    phase = np.linspace(0, 2 * np.pi, count, endpoint=False)
    poses = []
    for i, angle in enumerate(phase):
        eye = np.array([2.0 + 1.15 * np.cos(angle), 1.35 + 0.75 * np.sin(angle), 1.25 + 0.12 * np.sin(3 * angle)])
        across = np.array([2.0 - 1.5 * np.cos(angle + 0.5), 1.5 - 1.2 * np.sin(angle + 0.5), 0.35])
        poses.append(look_at(eye, across, roll_deg=3 * np.sin(2 * angle + i % 3)))
    return poses


def posed_scene(
    folder: Path, room: Room, poses: list[Pose], camera: Camera = CAMERA, held_out_every: int = 8
) -> PosedScene:
    """A saved poses folder with exact truth: images, cameras and 2000 sparse points."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    views, depths = [], []
    for i, pose in enumerate(poses):
        rgb, depth = room.render(camera, pose)
        cv2.imwrite(str(folder / f"images/{i:04d}.png"), rgb[..., ::-1])
        views.append(View(f"{i:04d}", f"images/{i:04d}.png", camera, pose, held_out=i % held_out_every == 0))
        depths.append(depth)
    rng = np.random.default_rng(1)
    xyz, view_index, point_index = [], [], []
    for i, view in enumerate(views):
        if view.held_out:
            continue
        u, v = rng.integers(0, camera.width, 2000 // len(views)), rng.integers(0, camera.height, 2000 // len(views))
        rays = camera.rays(np.stack([u, v], -1) + 0.5)
        points = view.world_from_camera.apply(rays * depths[i][v, u, None])
        for j, other in enumerate(views):
            local = other.world_from_camera.inverse().apply(points)
            pixel = camera.project(np.where(local[:, 2:] > 0.05, local, 1))
            column, row = np.floor(pixel).astype(int).T
            inside = (local[:, 2] > 0.05) & (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height)
            inside[inside] = np.abs(depths[j][row[inside], column[inside]] / local[inside, 2] - 1) < 0.02
            if not other.held_out:
                view_index.append(np.full(inside.sum(), j))
                point_index.append(np.flatnonzero(inside) + sum(map(len, xyz)))
        xyz.append(points)
    count = sum(map(len, xyz))
    points = SparsePoints(
        np.concatenate(xyz),
        np.full((count, 3), 128, np.uint8),
        np.full(count, 0.3),
        np.concatenate(view_index).astype(np.int32),
        np.concatenate(point_index).astype(np.int32),
    )
    scene = PosedScene(tuple(views), points, 0.01, 1.0, {"mapper": "truth"})
    scene.save(folder)
    return scene


def depth_maps(
    room: Room, poses: list[Pose], camera: Camera = CAMERA, *, noise: float = 0.0, held_out_every: int = 8
) -> list[DepthMap]:
    """Exact depth maps (plus Gaussian noise [m]) of the same views."""
    rng = np.random.default_rng(2)
    normals_of_faces = room.mesh.face_normals()
    maps = []
    for i, pose in enumerate(poses):
        position, depth = room.cast(camera, pose)
        ahead = np.cross(np.gradient(position, axis=1), np.gradient(position, axis=0))
        nearest = np.argmax(np.abs(ahead @ normals_of_faces[:12].T), -1)  # all surfaces are axis-aligned
        normal = normals_of_faces[nearest]
        normal *= -np.sign(np.einsum("hwc,hwc->hw", normal, position - pose.translation))[..., None]
        noisy = (depth + rng.normal(0, noise, depth.shape)).astype(np.float32) if noise else depth
        maps.append(
            DepthMap(
                f"{i:04d}",
                i % held_out_every == 0,
                camera,
                pose,
                noisy,
                np.full(depth.shape, max(noise, 1e-3), np.float32),
                pose.inverse().rotate(normal).astype(np.float32),
                np.zeros(depth.shape, bool),
            )
        )
    return maps


def write_photos(folder: Path, room: Room, poses: list[Pose], camera: Camera = CAMERA) -> None:
    """A folder of JPEGs, nothing else known."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, pose in enumerate(poses):
        _write_jpeg(folder / f"{i:04d}.jpg", room.render(camera, pose)[0])


def write_rgbd(
    folder: Path,
    room: Room,
    poses: list[Pose],
    camera: Camera = CAMERA,
    capture_from_world: Pose | None = None,
    declared: Camera | None = None,
) -> None:
    """A 7-Scenes-like recording: colour, 16-bit depth, camera-to-world, one intrinsics file."""
    folder.mkdir(parents=True, exist_ok=True)
    capture_from_world = capture_from_world or Pose.identity()
    np.savetxt(folder / "camera-intrinsics.txt", (declared or camera).matrix)
    for i, pose in enumerate(poses):
        rgb, depth = room.render(camera, pose)
        _write_jpeg(folder / f"frame-{i:06d}.color.jpg", rgb)
        cv2.imwrite(str(folder / f"frame-{i:06d}.depth.png"), (depth * 1000).round().astype(np.uint16))
        np.savetxt(folder / f"frame-{i:06d}.pose.txt", (capture_from_world @ pose).matrix)


def as_arkit_counts(camera: Camera) -> tuple[float, float]:
    """The principal point from the middle of the first of 1920 pixels, multiplied to the image's size."""
    by = max(camera.width, camera.height) / 1920
    return by * (camera.cx / by - 0.5), by * (camera.cy / by - 0.5)


def write_polycam(
    folder: Path, room: Room, poses: list[Pose], camera: Camera = CAMERA, depth_size: tuple[int, int] = (160, 120)
) -> Pose:
    """A Polycam raw export; returns the `arkit_from_world` it was written with (y up, arbitrary yaw)."""
    yaw = 0.7
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    arkit_from_world = Pose(turn @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]), np.array([0.4, -1.3, 0.9]))
    for part in ("images", "cameras", "depth", "confidence"):
        (folder / "keyframes" / part).mkdir(parents=True, exist_ok=True)
    for i, pose in enumerate(poses):
        stamp = 98_000_000 + i * 210_000 + (i * 7919) % 1000
        rgb, _ = room.render(camera, pose)
        _, depth = room.cast(camera.resized(*depth_size), pose)
        matrix = (arkit_from_world @ pose).matrix[:3]
        matrix[:, :3] = matrix[:, :3] @ CV_FROM_GL
        gravity = CV_FROM_GL @ pose.inverse().rotate([0, 0, -1.0])
        entry = {f"t_{r}{c}": float(matrix[r, c]) for r in range(3) for c in range(4)}
        cx, cy = as_arkit_counts(camera)
        entry |= {"fx": camera.fx, "fy": camera.fy, "cx": cx, "cy": cy}
        entry |= {"width": camera.width, "height": camera.height, "blur_score": 100.0, "gravity": list(gravity)}
        _write_jpeg(folder / f"keyframes/images/{stamp}.jpg", rgb)
        (folder / f"keyframes/cameras/{stamp}.json").write_text(json.dumps(entry))
        cv2.imwrite(str(folder / f"keyframes/depth/{stamp}.png"), (depth * 1000).round().astype(np.uint16))
        confidence = np.full(depth.shape, 255, np.uint8)
        cv2.imwrite(str(folder / f"keyframes/confidence/{stamp}.png"), confidence)
    return arkit_from_world


def _write_jpeg(path: Path, rgb: np.ndarray) -> None:
    cv2.imwrite(str(path), rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
