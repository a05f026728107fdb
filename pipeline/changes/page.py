"""A page that shows what moved between two scans: before, after, and the axis."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.changes.objects import MovedThing, TwoScans
from pipeline.changes.register import Registration
from pipeline.check.report import overview_pose, shaded_view
from pipeline.geometry import Similarity
from pipeline.io.files import machine_errors, write_whole
from pipeline.io.pages import render
from pipeline.objects.listing import AROUND, PICTURE, best_views, data_url, picture
from pipeline.types import F64, U8


def said_registration(registration: Registration) -> str:
    """How the scans lie on each other, in a line."""
    return (
        f"surfaces that stayed lie {1000 * registration.residual:.1f} mm apart, "
        f"sigma {1000 * registration.sigma:.1f} mm and {registration.sigma_deg:.2f} degrees; "
        f"{registration.agreement:.0%} of what one has and the other looked at is there"
    )


def said_motion(thing: MovedThing) -> str:
    """What a thing did, in a line."""
    joint = thing.object.joint if thing.object else None
    if joint is None:
        pose, middle = thing.motion.second_from_first, thing.motion.gone.surface.points.mean(0)
        turn = np.rad2deg(np.arccos(np.clip((np.trace(pose.rotation) - 1) / 2, -1, 1)))
        return f"moved by {np.linalg.norm(pose.apply(middle) - middle):.2f} m, turned by {turn:.0f} degrees"
    axis, point = (", ".join(f"{value:.3f}" for value in values) for values in (joint.axis, joint.point))
    if joint.kind == "hinge":
        travel, sigma = np.rad2deg([joint.range[1], joint.sigma_travel])
        where = f"through ({point}), sigma {1000 * joint.sigma:.0f} mm"
        return f"turned by {travel:.1f} degrees, sigma {sigma:.1f}, about ({axis}) {where}"
    return f"slid by {joint.range[1]:.3f} m, sigma {1000 * joint.sigma_travel:.0f} mm, along ({axis})"


def write_moved_page(compared: TwoScans, file: Path) -> None:
    """Write a page with everything that moved, in the views of both scans that show it best."""
    first, second = compared.first, compared.second
    splats, casters = (first.splat(), second.splat()), [scan.caster for scan in compared.scans]
    figures = list[tuple[str, str, list[str]]]()
    for thing in compared.things:
        one = thing.object
        if one is None:
            continue
        second_from_first = thing.motion.first_from_second.inverse() @ thing.motion.second_from_first
        there = replace(
            one.body,
            world_from_body=second_from_first @ one.body.world_from_body,
            mesh=one.body.mesh.transformed(Similarity.from_pose(second_from_first)),
        )
        shown, axes = list[U8](), _axis(thing)
        for number, body in enumerate((one.body, there)):
            axis = axes if axes is None or not number else thing.motion.first_from_second.inverse().apply(axes)
            view = next(iter(best_views((first, second)[number].cameras, body, casters[number])), None)
            if view:
                shown.append(picture(splats[number], view, body, outlined=True, axis=axis))
        shown += [shaded_view(one.body.mesh, PICTURE, overview_pose(one.body.mesh, PICTURE, *side)) for side in AROUND]
        figures.append((one.name, said_motion(thing), [data_url(image) for image in shown]))
    title = f"Moved between {first.manifest.reference} and {second.manifest.reference}"
    found = f"{said_registration(compared.registration)}."
    page = render("pipeline.changes", "changes.html", title=title, found=found, figures=figures)
    with machine_errors(file):
        write_whole(file, page, alone=True)


def _axis(thing: MovedThing) -> F64 | None:
    """The axis of a thing's joint, as long as the thing (2, 3)."""
    one = thing.object
    if one is None or one.joint is None:
        return None
    direction, point = np.array(one.joint.axis), np.array(one.joint.point)
    along = (one.body.mesh.vertices - point) @ direction
    return point + np.array([along.min(), along.max()])[:, None] * direction
