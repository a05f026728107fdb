"""The backend that the parameters name: from matched keyframes to the sparse map of the training views."""

from __future__ import annotations

from pipeline.geometry import Pose
from pipeline.poses.backends.by_network import from_network
from pipeline.poses.backends.refined import refined
from pipeline.poses.backends.shared import Inputs, Result, given_poses, map_alone, settled_result, submodel_report
from pipeline.poses.bundle_adjustment import ROUNDS, Adjuster
from pipeline.poses.epipolar import check_given_poses


def reconstruct(inputs: Inputs) -> Result:
    """The result of the backend that the parameters name."""
    images = inputs.images
    if inputs.params.backend == "refined":
        return refined(inputs)
    if inputs.params.backend == "sensor":  # poses and intrinsics as given; only points are computed
        check_given_poses(images, inputs.capture)
        given = given_poses(images.keyframes)
        return settled_result(inputs, given, dict.fromkeys(given, inputs.sensor_sigma), {})
    if inputs.params.backend == "colmap":  # poses from the images alone, in an arbitrary frame and scale
        mapped = map_alone(inputs)
        adjuster = Adjuster(images, mapped.poses, mapped.cameras, inputs.params.seed)
        sparse_map = adjuster.refine(None, ROUNDS if mapped.joined > 1 else ROUNDS[-1:])
        return Result(sparse_map, None, Pose.identity(), submodel_report(images, mapped), images.matches)
    return from_network(inputs)
