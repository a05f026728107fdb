"""Make the sample capture `hall`: model, walk, images, phone noise, truth.

Run from the repository's root, with Python 3.11 and the packages bpy 5.0, numpy, scipy,
opencv-python-headless, trimesh and embreex in an environment of their own:

    python -m scene_cards.samples.render_hall --work /tmp/hall

`--check` proves that images and truth agree: Blender's depth against the ray caster's, and the
painted texture under every pixel against the image.  Rendered frames are kept in the working
folder; a second run only renders what is missing.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from scene_cards.samples.hall_blender import Renderer
from scene_cards.samples.hall_export import write_capture, write_off_track, write_truth
from scene_cards.samples.hall_model import Model, build_model
from scene_cards.samples.hall_sensor import Intrinsics, cast
from scene_cards.samples.hall_textures import paint
from scene_cards.samples.hall_walk import off_track, walk

ROOT = Path(__file__).resolve().parents[2]
SEED = 20
FRAMES, SAMPLES, QUALITY = 68, 12, 88
OFF_TRACK_SAMPLES, OFF_TRACK_QUALITY = 48, 92
PHONE = Intrinsics(640, 480, 484.0, 484.0, 321.6, 238.7)
ROBOT = Intrinsics(160, 120, 96.0, 96.0, 80.0, 60.0)

log = logging.getLogger("render_hall")


def phone_cameras(frames: int, rng: np.random.Generator) -> list[Intrinsics]:
    """Return exact intrinsics that breathe by a few tenths of a pixel, as autofocus makes them."""
    t = np.linspace(0, 2 * np.pi, frames)
    focal = PHONE.fx + 0.2 * np.sin(2 * t + rng.uniform(0, 6)) + rng.normal(0, 0.03, frames)
    cx = PHONE.cx + 0.15 * np.sin(3 * t + rng.uniform(0, 6))
    cy = PHONE.cy + 0.15 * np.sin(2 * t + rng.uniform(0, 6))
    states = np.round(np.c_[focal, cx, cy], 4).tolist()
    return [Intrinsics(PHONE.width, PHONE.height, f, f, x, y) for f, x, y in states]


def _high_pass(image: NDArray[np.float32]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return np.asarray(grey - cv2.GaussianBlur(grey, (0, 0), 6.0), np.float32)


def texture_view(
    model: Model,
    mesh: trimesh.Trimesh,
    textures: dict[str, NDArray[np.uint8]],
    camera: Intrinsics,
    pose: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Look up the painted colour under every pixel by ray casting: an image without light."""
    depth, _, hit = cast(mesh, camera, pose)
    points = (camera.rays() * depth[..., None]).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
    owner = model.mesh()[2][hit.ravel()]
    out = np.zeros((len(points), 3), np.float32)
    for index in np.unique(owner):
        face, mask = model.faces[index], owner == index
        # the affine map from space to texture metres, from the face's own corners
        base = np.c_[face.vertices, np.ones(len(face.vertices))]
        to_uv = np.linalg.lstsq(base, face.uv, rcond=None)[0]
        uv = np.c_[points[mask], np.ones(mask.sum())] @ to_uv / model.texture_size[face.texture]
        pixels = textures[face.texture]
        size = np.array(pixels.shape[1::-1])
        column, row = (np.clip((uv * (1, -1) + (0, 1)) * size, 0, size - 1).astype(int)).T
        out[mask] = pixels[row, column] / 255.0
    return out.reshape(camera.height, camera.width, 3)


def check(
    renderer: Renderer,
    model: Model,
    mesh: trimesh.Trimesh,
    textures: dict[str, NDArray[np.uint8]],
    views: list[tuple[Path, Intrinsics, NDArray[np.float64]]],
) -> None:
    """Compare Blender with the ray caster on a few views; raise if they disagree."""
    for path, camera, pose in views:
        seen = renderer.depth(path.with_suffix(".exr"), camera, pose)
        depth = cast(mesh, camera, pose)[0]
        error = np.abs(seen - depth) * 1000
        median, high = np.percentile(error, (50, 99))
        log.info("%s: depth differs by %.3f mm (median), %.3f mm (p99)", path.stem, median, high)
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        drawn = texture_view(model, mesh, textures, camera, pose)
        window = cv2.createHanningWindow((camera.width, camera.height), cv2.CV_32F)
        a, b = _high_pass(drawn), _high_pass(image.astype(np.float32) / 255)
        (dx, dy), peak = cv2.phaseCorrelate(a, b, window)
        log.info("%s: image shifted by (%.3f, %.3f) px, peak %.2f", path.stem, dx, dy, peak)
        if median > 0.5 or high > 5.0 or max(abs(dx), abs(dy)) > 0.1:
            raise SystemExit(f"{path.name}: images and truth disagree")


def main() -> None:
    """Render what is missing, then write the capture and the truth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder for rendered frames")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", type=int, nargs="*", help="render these frames, write nothing")
    parser.add_argument("--check", action="store_true", help="compare images with the truth")
    parser.add_argument("--quality", type=int, default=QUALITY, help="JPEG quality of the frames")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    model = build_model()
    vertices, triangles, _ = model.mesh()
    mesh = trimesh.Trimesh(vertices, triangles, process=False)
    textures = paint(model, SEED)
    cameras = phone_cameras(FRAMES, np.random.default_rng([SEED, 0]))
    poses = walk(FRAMES, mesh, PHONE, np.random.default_rng([SEED, 1]))
    robot_rng = np.random.default_rng([SEED, 3])
    robot_poses, shares = off_track(mesh, poses, ROBOT, PHONE, robot_rng)
    args.work.mkdir(parents=True, exist_ok=True)
    renderer = Renderer(model, textures, args.work, args.threads)

    frames = [args.work / f"frame_{i:03d}.png" for i in range(FRAMES)]
    robot = [args.work / f"robot_{i:02d}.png" for i in range(len(robot_poses))]
    wanted = range(FRAMES) if args.only is None else args.only
    for i in wanted:
        if not frames[i].exists():
            renderer.image(frames[i], cameras[i], poses[i], SAMPLES, i)
    if args.check:
        some = [wanted[0], wanted[len(wanted) // 2]]
        views = [(frames[i], cameras[i], poses[i]) for i in some]
        check(renderer, model, mesh, textures, views)
    if args.only is not None:
        return
    for i, pose in enumerate(robot_poses):
        if not robot[i].exists():
            renderer.image(robot[i], ROBOT, pose, OFF_TRACK_SAMPLES, 1000 + i)

    capture = ROOT / "scene_cards" / "samples" / "hall"
    truth = ROOT / "tests" / "data" / "hall_truth"
    stamps, phone = write_capture(capture, frames, poses, cameras, mesh, args.quality, SEED)
    write_truth(truth, model, stamps, poses, cameras, phone)
    write_off_track(truth, robot, robot_poses, shares, ROBOT, OFF_TRACK_QUALITY)
    total = sum(p.stat().st_size for p in capture.rglob("*") if p.is_file())
    log.info("wrote %d frames, %.2f MB", FRAMES, total / 1e6)


if __name__ == "__main__":
    main()
