"""Large places in tiles."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.depth.maps import DepthMap
from pipeline.errors import ReconstructionError
from pipeline.geometry import Mesh, PointCloud
from pipeline.mesh import tiles
from pipeline.mesh.clean import SurfaceVotes, observe
from pipeline.mesh.params import MeshParams
from pipeline.mesh.stage import build_mesh
from pipeline.mesh.tiles import is_large, surface_in_tiles
from pipeline.mesh.tsdf import TooManyVoxelsError, fuse
from tests.mesh.scenes import PARAMS, VOXEL, built, cloud, maps, same, track


@cache
def whole() -> Mesh:
    """The room's surface in one piece."""
    return fuse(maps(), VOXEL, PARAMS.truncation_voxels, PARAMS.min_views)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 1.7 x 1.7 x 1.4 m: the room has 17."""
    monkeypatch.setattr(tiles, "SIZE", np.array([6, 6, 5]))
    monkeypatch.setattr(tiles, "FIRST", np.array([-3, -3, -2]))


def in_tiles(some: list[DepthMap], folder: Path, params: MeshParams = PARAMS) -> tuple[Mesh, SurfaceVotes]:
    """The surface of maps, in tiles."""
    return surface_in_tiles(some, params, VOXEL, folder)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each tile was written, and what it holds, by key."""
    found = sorted(folder.glob(f"[!.]*/{tiles.SURFACE_FILE}"))
    return {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.mark.parametrize("min_views", [1, 2])
def test_tiles_are_the_whole(tmp_path: Path, min_views: int) -> None:
    """Surface and votes, bit for bit: no seam."""
    params = PARAMS.changed(min_views=min_views)
    mesh, votes = in_tiles(maps(), tmp_path, params)
    at_once = fuse(maps(), VOXEL, params.truncation_voxels, min_views)
    wanted = observe(at_once.corners().mean(1), at_once.face_normals(), maps(), params.carve_margin)
    assert len(files(tmp_path)) > 12
    assert same(mesh, at_once)
    assert np.array_equal(votes.seen, wanted.seen)
    assert np.array_equal(votes.seen_through, wanted.seen_through)
    assert np.array_equal(votes.facing, wanted.facing)
    assert votes.seen_through.any()


def test_no_tile_has_what_another_has(tmp_path: Path) -> None:
    """As many triangles in all tiles as in the whole, and several in each of many."""
    in_tiles(maps(), tmp_path)
    counts = [len(np.load(path)["triangles"]) for path in tmp_path.glob(f"*/{tiles.SURFACE_FILE}")]
    assert sum(counts) == len(whole().triangles)
    assert sum(count > 100 for count in counts) > 8


def test_nothing_is_made_twice(tmp_path: Path) -> None:
    """A second run takes all tiles as they are."""
    first = in_tiles(maps(), tmp_path)[0]
    before = files(tmp_path)
    assert same(in_tiles(maps(), tmp_path)[0], first)
    assert files(tmp_path) == before


def test_a_changed_map_makes_its_own_tiles_again(tmp_path: Path) -> None:
    """A box stands before one camera: what no pyramid of that view meets stays, and the result is that of the whole."""
    near = maps()
    in_tiles(near, tmp_path)
    before = files(tmp_path)
    depth = near[4].depth.copy()
    depth[60:80, 90:110] = 0.6
    changed = [*near[:4], replace(near[4], depth=depth), *near[5:]]
    mesh = in_tiles(changed, tmp_path)[0]
    after = files(tmp_path)
    assert {key: after[key] for key in before} == before
    assert 0 < len(after) - len(before) < 0.8 * len(before)
    assert same(mesh, fuse(changed, VOXEL, PARAMS.truncation_voxels, PARAMS.min_views))
    assert not same(mesh, whole())


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was complete stays, what was half done is made again."""
    real, made = tiles._make, []

    def dying(tile: tiles.Tile, some: list[DepthMap], lattice: tiles.Lattice, file: Path) -> None:
        made.append(tile.key)
        if len(made) == 8:
            raise KeyboardInterrupt
        real(tile, some, lattice, file)

    with monkeypatch.context() as patched:
        patched.setattr(tiles, "_make", dying)
        with pytest.raises(KeyboardInterrupt):
            in_tiles(maps(), tmp_path)
    before = files(tmp_path)
    (tmp_path / f".{made[7]}.partial").mkdir(exist_ok=True)  # as a kill -9 leaves it
    (tmp_path / f".{made[7]}.partial" / tiles.SURFACE_FILE).write_bytes(b"half")
    assert before and made[7] not in before
    assert same(in_tiles(maps(), tmp_path)[0], whole())
    after = files(tmp_path)
    assert {key: after[key] for key in before} == before


def test_other_parameters_are_other_tiles(tmp_path: Path) -> None:
    """None is taken that was made with another margin."""
    in_tiles(maps()[:3], tmp_path)
    before = files(tmp_path)
    in_tiles(maps()[:3], tmp_path, PARAMS.changed(carve_margin=0.2))
    assert len(files(tmp_path)) == 2 * len(before)


def test_maps_without_a_common_surface_are_refused(tmp_path: Path) -> None:
    """As in one piece."""
    blind = replace(maps()[0], depth=np.zeros_like(maps()[0].depth))
    with pytest.raises(ReconstructionError, match="share a surface"):
        in_tiles([blind], tmp_path)


def test_too_many_voxels_are_refused_before_any_tile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on all tiles together: what follows works on the whole."""
    monkeypatch.setattr(tiles, "MAX_BLOCKS", 100)
    with pytest.raises(TooManyVoxelsError, match="100 blocks"):
        in_tiles(maps(), tmp_path)
    assert not files(tmp_path)


def test_the_stage_makes_the_same_of_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mesh and collision mesh of a place that counts as large, byte by byte."""
    monkeypatch.setattr(tiles, "ONE_TILE", 1.0)
    result = build_mesh(maps(), cloud(), track(), PARAMS, tiles=tmp_path)
    assert len(files(tmp_path)) > 12
    assert same(result.mesh, built().mesh)
    assert same(result.collision, built().collision)
    assert result.report == built().report


def test_a_room_is_one_tile() -> None:
    """The room isn't large; nine rooms in a square are."""
    points = cloud().points
    assert not is_large(cloud())
    assert is_large(PointCloud.concatenate([_moved(points, 6.0 * i, 6.0 * j) for i in range(3) for j in range(3)]))


def _moved(points: np.ndarray, x: float, y: float) -> PointCloud:
    return replace(cloud(), points=(points + np.array([x, y, 0])).astype(np.float32))
