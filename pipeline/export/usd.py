"""A bundle as USD: the splat for cameras and the collision mesh for physics, Z up, in metres.

    /<scene>             the default prim, with a record of where it comes from and its licence
    /<scene>/splat       ParticleField3DGaussianSplat
    /<scene>/collision   Mesh, purpose guide, collides as the triangles that it is
    /<scene>/surface     its friction
    /<scene>/object_...  Xform of each object that was cut out, a rigid body: splat, convex pieces, surface; splat and
                         collision of the scene are then without them
    /<scene>/joint_...   the revolute or prismatic joint that holds an object, in the scene
    /<scene>/spawn_0...  Xform of each spawn pose, x forward
    /<scene>/view_0...   Camera of each held-out view in export.json
    /physicsScene        gravity; left out where the scene is referenced into another stage

Source: OpenUSD 26.11, schemas UsdVol (ParticleField3DGaussianSplat), UsdPhysics and UsdMedia (AuthorshipAPI).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.spatial import ConvexHull

from pipeline.errors import MachineError, install
from pipeline.export.agreement import views
from pipeline.export.form import FRICTION, origin
from pipeline.geometry import CV_FROM_GL, Gaussians, Mesh, Pose, matrix_from_quaternion, rotation_between
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.objects import BundleObject, Joint
from pipeline.types import F32

PARTS = ("Gf", "Tf", "Usd", "UsdGeom", "UsdMedia", "UsdPhysics", "UsdShade", "UsdVol", "Vt")
"""Modules of OpenUSD that are used here."""
SUPPORT = 3.0
"""Standard deviations within which a Gaussian is taken to lie, for bounds."""
SH_WHOLE = 16
"""Coefficients of degree 3: splats of degree 1 and 2 are filled up with zeros, for renderers that know 0 and 3 only."""


def export_usd(bundle: Bundle, folder: Path) -> None:
    """Write `scene.usdc`.

    Raises:
        MachineError: When usd-core is not installed.
    """
    try:
        pxr = SimpleNamespace(**{name: importlib.import_module(f"pxr.{name}") for name in PARTS})
    except ImportError as error:
        raise MachineError("USD is written by usd-core", found=str(error), remedy=install("export")) from error
    stage = pxr.Usd.Stage.CreateNew(str(folder / "scene.usdc"))
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.z)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    pxr.UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    root = f"/{pxr.Tf.MakeValidIdentifier(bundle.manifest.name)}"
    scene = pxr.UsdGeom.Xform.Define(stage, root).GetPrim()
    stage.SetDefaultPrim(scene)
    about = origin(bundle)
    record = pxr.UsdMedia.AuthorshipAPI.Apply(scene, "splatyard")
    record.CreateSoftwarePackageAttr("splatyard")
    record.CreateSoftwareVersionAttr(version("splatyard"))
    record.CreateDigitalSourceTypeAttr(about["digital_source_type"])
    record.CreateUsageTermsAttr(about["licence"])
    record.CreateDescriptionAttr(bundle.manifest.provenance.description)
    licences = ", ".join(f"{name}: {text}" for name, text in about["stage_licences"].items())
    texts = {**about, "failed_gates": ", ".join(about["failed_gates"]), "stage_licences": licences}
    record.CreateInputsAttr([text for pair in texts.items() for text in pair])
    if not bundle.manifest.is_object:
        level, mesh = ("rest", "rest_collision") if bundle.objects else ("full", "collision")
        splat = pxr.UsdVol.ParticleField3DGaussianSplat.Define(stage, f"{root}/splat")
        _write_splat(pxr, splat, bundle.classic_splat(level))
        collision = pxr.UsdGeom.Mesh.Define(stage, f"{root}/collision")
        _write_collision(pxr, collision, bundle.mesh(mesh))
        _bind_surface(pxr, stage, f"{root}/surface", FRICTION, [collision])
    for one in bundle.objects:
        name = pxr.Tf.MakeValidIdentifier(f"object_{one.record.name}")
        while stage.GetPrimAtPath(f"{root}/{name}"):  # box-1 and box_1
            name += "_"
        _write_object(pxr, stage, f"{root}/{name}", one, bundle.classic_object(one))
        if one.record.joint:
            _write_joint(pxr, stage, root, name, one, one.record.joint)
    _write_frames(pxr, stage, root, bundle)
    gravity = np.array(bundle.manifest.frame.gravity)
    size = float(np.linalg.norm(gravity))
    physics = pxr.UsdPhysics.Scene.Define(stage, "/physicsScene")
    physics.CreateGravityDirectionAttr(pxr.Gf.Vec3f(*(gravity / size).tolist()))
    physics.CreateGravityMagnitudeAttr(size)
    stage.GetRootLayer().Save()


def _write_frames(pxr: SimpleNamespace, stage: Any, root: str, bundle: Bundle) -> None:
    """The export's views as cameras, whose aperture is an image with pixels 1 mm wide, and spawn poses, x forward."""
    frames = [(f"spawn_{number}", pose) for number, pose in enumerate(bundle.spawn_poses)]
    cameras = {f"view_{number}": one for number, one in enumerate(views(bundle))}
    frames += [
        (name, Pose(one.world_from_camera.rotation @ CV_FROM_GL, one.world_from_camera.translation))
        for name, one in cameras.items()
    ]
    for name, pose in frames:
        kind = pxr.UsdGeom.Camera if name in cameras else pxr.UsdGeom.Xform
        placed = kind.Define(stage, f"{root}/{name}")
        placed.AddTranslateOp().Set(pxr.Gf.Vec3d(*pose.translation.tolist()))
        placed.AddOrientOp().Set(pxr.Gf.Quatf(*map(float, pose.quaternion)))
        if one := cameras.get(name):
            lens = one.camera
            tall = lens.fx / lens.fy  # of a pixel [mm]: a camera has one focal length
            placed.CreateFocalLengthAttr(lens.fx)
            placed.CreateHorizontalApertureAttr(float(lens.width))
            placed.CreateVerticalApertureAttr(tall * lens.height)
            placed.CreateHorizontalApertureOffsetAttr(lens.width / 2 - lens.cx)
            placed.CreateVerticalApertureOffsetAttr(tall * (lens.cy - lens.height / 2))
            placed.CreateClippingRangeAttr(pxr.Gf.Vec2f(0.01, 1000))


def _bind_surface(pxr: SimpleNamespace, stage: Any, path: str, friction: float, shapes: Sequence[Any]) -> None:
    """A material of some friction, for shapes that collide."""
    surface = pxr.UsdShade.Material.Define(stage, path)
    material = pxr.UsdPhysics.MaterialAPI.Apply(surface.GetPrim())
    material.CreateStaticFrictionAttr(friction)
    material.CreateDynamicFrictionAttr(friction)
    for shape in shapes:
        pxr.UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(surface, materialPurpose="physics")


def _write_object(pxr: SimpleNamespace, stage: Any, path: str, one: BundleObject, splat: Gaussians) -> None:
    record, pose = one.record, one.world_from_body
    place = pxr.UsdGeom.Xform.Define(stage, path)
    place.AddTranslateOp().Set(pxr.Gf.Vec3d(*pose.translation.tolist()))
    place.AddOrientOp().Set(pxr.Gf.Quatf(*map(float, pose.quaternion)))
    pxr.UsdPhysics.RigidBodyAPI.Apply(place.GetPrim())
    pxr.UsdPhysics.MassAPI.Apply(place.GetPrim()).CreateMassAttr(record.mass)
    _write_splat(pxr, pxr.UsdVol.ParticleField3DGaussianSplat.Define(stage, f"{path}/splat"), splat)
    pieces = []
    for number, corners in enumerate(one.hulls()):
        pieces.append(pxr.UsdGeom.Mesh.Define(stage, f"{path}/piece_{number}"))
        triangles = ConvexHull(corners).simplices
        _write_collision(pxr, pieces[-1], Mesh.from_arrays(corners, triangles), pxr.UsdPhysics.Tokens.convexHull)
    _bind_surface(pxr, stage, f"{path}/surface", record.friction, pieces)


def _write_joint(pxr: SimpleNamespace, stage: Any, root: str, name: str, one: BundleObject, joint: Joint) -> None:
    """Between the scene, which has no body and stays, and an object; both frames have x along the axis."""
    kinds = {"hinge": pxr.UsdPhysics.RevoluteJoint, "slide": pxr.UsdPhysics.PrismaticJoint}
    made = kinds[joint.kind].Define(stage, f"{root}/{name.replace('object', 'joint', 1)}")
    made.CreateBody0Rel().SetTargets([root])
    made.CreateBody1Rel().SetTargets([f"{root}/{name}"])
    turn = rotation_between([1.0, 0, 0], joint.axis)
    in_world = Pose(turn, np.array(joint.point))
    in_body = one.world_from_body.inverse() @ in_world
    made.CreateLocalPos0Attr(pxr.Gf.Vec3f(*in_world.translation.tolist()))
    made.CreateLocalRot0Attr(pxr.Gf.Quatf(*map(float, in_world.quaternion)))
    made.CreateLocalPos1Attr(pxr.Gf.Vec3f(*in_body.translation.tolist()))
    made.CreateLocalRot1Attr(pxr.Gf.Quatf(*map(float, in_body.quaternion)))
    made.CreateAxisAttr(pxr.UsdPhysics.Tokens.x)
    low, high = np.rad2deg(joint.range) if joint.kind == "hinge" else joint.range  # USD counts degrees
    made.CreateLowerLimitAttr(float(low))
    made.CreateUpperLimitAttr(float(high))


def _write_splat(pxr: SimpleNamespace, field: Any, gaussians: Gaussians) -> None:
    sh = gaussians.sh
    if 1 < sh.shape[1] < SH_WHOLE:
        sh = np.pad(sh, ((0, 0), (0, SH_WHOLE - sh.shape[1]), (0, 0)))
    unit = gaussians.unit_quaternions
    scales, opacity = np.exp(gaussians.log_scales), gaussians.opacities
    field.CreatePositionsAttr(_vectors(pxr, gaussians.means))
    field.CreateScalesAttr(_vectors(pxr, scales))
    field.CreateOrientationsAttr(pxr.Vt.QuatfArray.FromNumpy(_floats(np.roll(unit, -1, 1))))  # xyzw in memory
    field.CreateOpacitiesAttr(pxr.Vt.FloatArray.FromNumpy(_floats(opacity)))
    field.CreateRadianceSphericalHarmonicsDegreeAttr(math.isqrt(sh.shape[1]) - 1)
    field.CreateRadianceSphericalHarmonicsCoefficientsAttr(_vectors(pxr, sh.reshape(-1, 3)))
    reach = SUPPORT * np.sqrt(((matrix_from_quaternion(unit) * scales[:, None]) ** 2).sum(2))
    field.CreateExtentAttr(_extent(pxr, np.concatenate([gaussians.means - reach, gaussians.means + reach])))
    field.CreateSortingModeHintAttr(pxr.UsdVol.Tokens.zDepth)
    field.CreateProjectionModeHintAttr(pxr.UsdVol.Tokens.perspective)


def _write_collision(pxr: SimpleNamespace, shape: Any, mesh: Mesh, approximation: str = "") -> None:
    shape.CreatePointsAttr(_vectors(pxr, mesh.vertices))
    triangles = np.ascontiguousarray(mesh.triangles, np.int32)
    shape.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(triangles.ravel()))
    shape.CreateFaceVertexCountsAttr(pxr.Vt.IntArray(len(triangles), 3))
    shape.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    shape.CreateExtentAttr(_extent(pxr, mesh.vertices))
    shape.CreatePurposeAttr(pxr.UsdGeom.Tokens.guide)
    pxr.UsdPhysics.CollisionAPI.Apply(shape.GetPrim())
    pxr.UsdPhysics.MeshCollisionAPI.Apply(shape.GetPrim()).CreateApproximationAttr(
        approximation or pxr.UsdPhysics.Tokens.none
    )


def _floats(values: np.ndarray) -> F32:
    return np.ascontiguousarray(values, np.float32)


def _vectors(pxr: SimpleNamespace, values: np.ndarray) -> Sequence[object]:
    return pxr.Vt.Vec3fArray.FromNumpy(_floats(values))


def _extent(pxr: SimpleNamespace, points: np.ndarray) -> Sequence[object]:
    return _vectors(pxr, np.stack([points.min(0), points.max(0)]))
