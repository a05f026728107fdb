"""Frames, transforms and the geometric types that flow between stages. Conventions: docs/conventions.md."""

from pipeline.geometry.camera import Camera
from pipeline.geometry.cloud import PointCloud, farthest_points, morton_order
from pipeline.geometry.gaussians import Gaussians, logit, sigmoid
from pipeline.geometry.mesh import Mesh
from pipeline.geometry.plane import Plane, commonest_direction, fit_plane, ransac_plane
from pipeline.geometry.pose import CV_FROM_GL, FARTHEST, Pose
from pipeline.geometry.rotation import (
    angle_deg,
    is_rotation,
    matrix_from_quaternion,
    matrix_from_rotvec,
    quaternion_from_matrix,
    quaternion_product,
    quaternions_between,
    quaternions_from_z,
    rotation_between,
    rotvec_from_matrix,
    wxyz_from_xyzw,
    xyzw_from_wxyz,
)
from pipeline.geometry.similarity import Similarity, fit_similarity
from pipeline.geometry.spherical_harmonics import SH_C0, sh_basis, sh_rotation
