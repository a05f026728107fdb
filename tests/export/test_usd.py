"""USD: read by OpenUSD, valid for its own validators, and the same to cameras and rays."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pxr import Usd, UsdGeom, UsdMedia, UsdPhysics, UsdShade, UsdValidation, UsdVol

from pipeline.errors import MachineError
from pipeline.export.agreement import views
from pipeline.export.catalog import FORMS
from pipeline.export.form import export
from pipeline.export.usd import export_usd
from pipeline.geometry import Gaussians, Mesh, Pose
from pipeline.scenes.bundle import Bundle
from pipeline.splat.ply import save_splat
from tests.export.conftest import change, hits, image, psnr, splat_of
from tests.objects.furniture import JOINT, with_joint
from tests.synthetic import Room


def opened(bundle: Bundle, folder: Path) -> Any:
    """The stage of an export."""
    export_usd(bundle, folder)
    return Usd.Stage.Open(str(folder / "scene.usdc"))


def gaussians_of(stage: Any) -> Gaussians:
    """Its splat, as the schema's documentation tells it."""
    field = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/room/splat"))
    coefficients = (field.GetRadianceSphericalHarmonicsDegreeAttr().Get() + 1) ** 2
    opacity = np.array(field.GetOpacitiesAttr().Get())
    turns = field.GetOrientationsAttr().Get()
    return Gaussians(
        np.array(field.GetPositionsAttr().Get()),
        np.log(np.array(field.GetScalesAttr().Get())),
        np.array([[turn.GetReal(), *turn.GetImaginary()] for turn in turns], np.float32),
        np.log(opacity / (1 - opacity)),
        np.array(field.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()).reshape(-1, coefficients, 3),
    )


def test_all_validators_are_content(bundle: Bundle, tmp_path: Path):
    """OpenUSD's own, of which one finds fault when the unit is missing."""
    stage = opened(bundle, tmp_path)
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(validators) > 20
    context = UsdValidation.ValidationContext(validators)
    assert not [error.GetMessage() for error in context.Validate(stage)]
    stage.ClearMetadata("metersPerUnit")
    assert context.Validate(stage)


def test_cameras_see_the_same_splat(bundle: Bundle, tmp_path: Path):
    """Every number but those of rounding; Z up and in metres, so at the same pose."""
    stage = opened(bundle, tmp_path)
    assert UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.z
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    pose = bundle.cameras[2].world_from_camera
    assert psnr(image(gaussians_of(stage), pose), image(bundle.splat(), pose)) > 80


@pytest.mark.parametrize(("coefficients", "degree"), [(1, 0), (4, 3), (16, 3)])
def test_renderers_get_degree_0_or_3(folder: Path, tmp_path: Path, room: Room, coefficients: int, degree: int):
    """Missing coefficients are zero."""
    splat = splat_of(room, coefficients)
    save_splat(splat, folder / "splat.ply")
    stage = opened(change(folder), tmp_path)
    field = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/room/splat"))
    assert field.GetRadianceSphericalHarmonicsDegreeAttr().Get() == degree
    sh = gaussians_of(stage).sh
    np.testing.assert_array_equal(sh[:, :coefficients], splat.sh)
    assert not sh[:, coefficients:].any()


def test_the_bounds_hold_the_gaussians(bundle: Bundle, tmp_path: Path):
    """Turned ellipsoids, at three standard deviations; and they are no larger than their longest axes."""
    stage, splat = opened(bundle, tmp_path), bundle.splat()
    low, high = np.array(UsdGeom.Boundable(stage.GetPrimAtPath("/room/splat")).GetExtentAttr().Get())
    unit = replace(splat, log_scales=np.zeros_like(splat.log_scales))
    longest = 3 * np.exp(splat.log_scales.max(1))[:, None]
    assert (low <= unit.means.min(0)).all()
    assert (high >= unit.means.max(0)).all()
    assert (low > (splat.means - longest).min(0)).all()
    assert (high < (splat.means + longest).max(0)).all()


def test_rays_hit_the_same_collision_mesh(bundle: Bundle, tmp_path: Path):
    """The triangles themselves collide, with friction, and gravity pulls down."""
    stage = opened(bundle, tmp_path)
    prim = stage.GetPrimAtPath("/room/collision")
    assert prim.HasAPI(UsdPhysics.CollisionAPI)
    assert UsdPhysics.MeshCollisionAPI(prim).GetApproximationAttr().Get() == "none"
    surface, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial("physics")
    assert UsdPhysics.MaterialAPI(surface).GetDynamicFrictionAttr().Get() == 1.0
    shape = UsdGeom.Mesh(prim)
    assert set(shape.GetFaceVertexCountsAttr().Get()) == {3}
    triangles = np.array(shape.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    mesh, pose = Mesh.from_arrays(np.array(shape.GetPointsAttr().Get()), triangles), bundle.cameras[0].world_from_camera
    for mine, theirs in zip(hits(mesh, pose), hits(bundle.mesh("collision"), pose), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    gravity = UsdPhysics.Scene(stage.GetPrimAtPath("/physicsScene"))
    assert gravity.GetGravityDirectionAttr().Get() == (0, 0, -1)
    assert gravity.GetGravityMagnitudeAttr().Get() == pytest.approx(9.81)


def test_another_stage_takes_the_scene_alone(bundle: Bundle, tmp_path: Path):
    """A reference to the file brings the default prim, without gravity."""
    export_usd(bundle, tmp_path)
    stage: Any = Usd.Stage.CreateInMemory()
    stage.DefinePrim("/World/hall").GetReferences().AddReference(str(tmp_path / "scene.usdc"))
    assert stage.GetPrimAtPath("/World/hall/splat").GetTypeName() == "ParticleField3DGaussianSplat"
    assert not [prim for prim in stage.Traverse() if prim.IsA(UsdPhysics.Scene)]


def test_licence_and_mark_are_in_the_file(folder: Path, tmp_path: Path):
    """In USD's own record, which a reference to the scene keeps."""
    stage = opened(change(folder, origin="generated", licence="CC-BY-4.0"), tmp_path)
    record = UsdMedia.AuthorshipAPI(stage.GetDefaultPrim(), "splatyard")
    assert record.GetDigitalSourceTypeAttr().Get().endswith("/trainedAlgorithmicMedia")
    assert record.GetUsageTermsAttr().Get() == "CC-BY-4.0"
    told = list(record.GetInputsAttr().Get())
    assert dict(zip(told[::2], told[1::2], strict=True))["bundle"] == "room@1.0.0"


def test_the_library_may_be_missing(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names the extra, and nothing is left."""
    monkeypatch.setitem(sys.modules, "pxr.UsdVol", None)
    with pytest.raises(MachineError, match=r"splatyard\[export\]"):
        export(bundle, FORMS["usd"], tmp_path / "new" / "out")
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("kind", ["hinge", "slide"])
def test_a_joint_holds_a_body_in_the_scene(cut_room: Path, tmp_path: Path, kind: str):
    """Both of its frames are one where the body stands, with x along the axis; OpenUSD finds no fault."""
    bundle = Bundle.open(with_joint(cut_room, tmp_path / "room" / "1.1.0", JOINT | {"kind": kind}))
    one = next(one for one in bundle.objects if one.record.joint)
    stage = opened(bundle, tmp_path)
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert not [error.GetMessage() for error in context.Validate(stage)]
    kinds = {"hinge": UsdPhysics.RevoluteJoint, "slide": UsdPhysics.PrismaticJoint}
    joint = kinds[kind](stage.GetPrimAtPath(f"/room/joint_{one.record.name.replace('-', '_')}"))
    assert joint.GetAxisAttr().Get() == "X"
    poses = []
    for side in "01":
        turn = joint.GetPrim().GetAttribute(f"physics:localRot{side}").Get()
        place = joint.GetPrim().GetAttribute(f"physics:localPos{side}").Get()
        poses.append(Pose.from_quaternion([turn.GetReal(), *turn.GetImaginary()], place))
    np.testing.assert_allclose(poses[0].translation, JOINT["point"], atol=1e-6)
    np.testing.assert_allclose(poses[0].rotation[:, 0], JOINT["axis"], atol=1e-6)
    np.testing.assert_allclose((one.world_from_body @ poses[1]).matrix, poses[0].matrix, atol=1e-6)
    upper = np.rad2deg(0.7) if kind == "hinge" else 0.7
    assert joint.GetUpperLimitAttr().Get() == pytest.approx(upper, rel=1e-5)


def test_objects_are_rigid_bodies(cut_room: Path, tmp_path: Path):
    """With their own splat and pieces where they stood; the scene is without them; OpenUSD finds no fault."""
    bundle = Bundle.open(cut_room)
    stage = opened(bundle, tmp_path)
    context = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert not [error.GetMessage() for error in context.Validate(stage)]
    np.testing.assert_allclose(gaussians_of(stage).means, bundle.classic_splat("rest").means, atol=1e-6)
    for one in bundle.objects:
        path = f"/room/object_{one.record.name.replace('-', '_')}"
        prim = stage.GetPrimAtPath(path)
        assert prim.HasAPI(UsdPhysics.RigidBodyAPI)
        assert UsdPhysics.MassAPI(prim).GetMassAttr().Get() == pytest.approx(one.record.mass)
        place = np.array(UsdGeom.Xformable(prim).ComputeLocalToWorldTransform(0)).T
        np.testing.assert_allclose(place, one.world_from_body.matrix, atol=1e-6)
        piece = UsdGeom.Mesh(stage.GetPrimAtPath(f"{path}/piece_0"))
        np.testing.assert_allclose(piece.GetPointsAttr().Get(), one.record.hulls[0], atol=1e-6)
        approximation = UsdPhysics.MeshCollisionAPI(piece.GetPrim()).GetApproximationAttr().Get()
        assert approximation == UsdPhysics.Tokens.convexHull
        field = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath(f"{path}/splat"))
        np.testing.assert_allclose(field.GetPositionsAttr().Get(), one.splat().means, atol=1e-6)


def test_cameras_are_those_of_the_views(bundle: Bundle, tmp_path: Path):
    """A point lies in OpenUSD's own picture where it lies in the view's; spawn poses have x forward."""
    stage = opened(bundle, tmp_path)
    for number, view in enumerate(views(bundle)):
        camera = UsdGeom.Camera(stage.GetPrimAtPath(f"/room/view_{number}")).GetCamera(Usd.TimeCode.Default())
        ours = np.array([[0.3, -0.2, 1.5], [-0.4, 0.1, 2.0], [0, 0, 3.0]])
        there = camera.frustum.ComputeViewMatrix() * camera.frustum.ComputeProjectionMatrix()
        shown = np.array([there.Transform(view.world_from_camera.apply(point).tolist()) for point in ours])
        size = np.array([view.camera.width, view.camera.height])
        pixels = (shown[:, :2] * [1, -1] + 1) / 2 * size
        np.testing.assert_allclose(pixels, view.camera.project(ours), atol=1e-2)
    for number, pose in enumerate(bundle.spawn_poses):
        place = UsdGeom.Xformable(stage.GetPrimAtPath(f"/room/spawn_{number}")).ComputeLocalToWorldTransform(0)
        np.testing.assert_allclose(np.array(place).T, pose.matrix, atol=1e-6)
