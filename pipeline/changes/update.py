"""A new version of a bundle from a re-scan of part of its place: what must be there, and the plan.

The re-scan is built by itself up to its mesh, then found in the version's map; see `update_stages`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.changes.update_stages import AGAIN, BEFORE, UpdateParams
from pipeline.errors import BundleError, CaptureError, CardError
from pipeline.machine import Machine
from pipeline.parameters import Settings, checked, machine_settings, parse_settings, with_changes
from pipeline.running.building import BuildRequest, Plan, plan, plan_stages
from pipeline.running.sources import names_of
from pipeline.running.stages import PARAMS, STAGES
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.manifest import Manifest, StageRecord
from pipeline.stage import Choice, Stage, Traits

OWN = ("capture", "select", "poses", "align")
"""Stages of the version's build that the update has its own for, with parameters of its own."""
LEFT = (*OWN, "depth", "points", "mesh", "splat")
"""Stages of the version's build whose results an update needs."""
UNTIL = "mesh"
"""Stage up to which the re-scan is built by itself."""


def _both(*stages: str) -> tuple[str, ...]:
    return tuple(stage + which for which in (BEFORE, AGAIN) for stage in stages)


def _again(*stages: str) -> tuple[str, ...]:
    return tuple(stage + AGAIN for stage in stages)


def _kind(traits: Traits, _params: Settings, _machine: Machine) -> Choice:
    return Choice(traits.kind, "an earlier version's capture, and a re-scan")


def _own(name: str, *needs: str, writes: str) -> Stage:
    return Stage(name, 2, needs, UpdateParams, function=f"pipeline.changes.update_stages:{writes}")


def _of_part(name: str, *needs: str, writes: str) -> Stage:
    """A build's stage that takes over what the version has where nothing changed."""
    (stage,) = (stage for stage in STAGES if stage.name == name)
    needed = tuple(dict.fromkeys((*stage.needs, "update", name + BEFORE, *needs)))
    return replace(stage, needs=needed, function=f"pipeline.changes.{writes}")


PARTS = (
    _of_part("depth", "align", *_again("depth", "poses"), writes="part_stages:write_depth"),
    _of_part("points", writes="part_stages:write_points"),
    _of_part("mesh", "depth" + BEFORE, "points" + BEFORE, writes="part_stages:write_mesh"),
    _of_part("splat", "mesh" + BEFORE, writes="part_splat:write_splat"),
)
UPDATE_STAGES: tuple[Stage, ...] = (
    _own(
        "update",
        *("source", "before", *_both("capture", "poses", "align"), *_again("depth", "mesh")),
        writes="find",
    ),
    replace(_own("capture", "update", *_both("capture", "poses", "align"), writes="write_capture"), choose=_kind),
    _own("select", "capture", *_both("select"), writes="write_selection"),
    _own("poses", "update", f"align{BEFORE}", *_both("poses"), writes="write_poses"),
    _own("align", f"align{BEFORE}", writes="write_alignment"),
    *PARTS,
    *(stage for stage in STAGES if stage.name in ("coverage", "regions", "check")),
    replace(STAGES[-1], needs=(*STAGES[-1].needs, "update"), function="pipeline.changes.update_stages:write_version"),
)


def plan_again(bundle: Bundle, capture: Path, settings: Iterable[str] = ()) -> Plan:
    """The plan of the re-scan by itself, in the folders of the version's build.

    Raises:
        BundleError: When the version is no place, or what its build left isn't there.
        CaptureError: When the re-scan can't be read, or lacks depth, poses or scale.
        CardError: When a setting is wrong.
    """
    _left(bundle)
    out = bundle.root.parent.parent
    planned = plan(BuildRequest(capture, bundle.manifest.name, out, settings=tuple(settings), until=UNTIL))
    traits = planned.traits
    if not (traits.has_depth and traits.has_poses and traits.has_scale):
        raise CaptureError(
            "a re-scan has depth, and poses in metres (phones with LiDAR, RGB-D cameras)",
            found=f"a {traits.kind} capture with{'' if traits.has_depth else 'out'} depth, "
            f"with{'' if traits.has_poses and traits.has_scale else 'out'} metric poses",
            remedy="film it with such a camera, or build it as a bundle of its own; "
            "`splatyard bundle diff A B --page FILE` compares two",
            file=capture,
        )
    return planned


def plan_update(bundle: Bundle, again: Plan, settings: Iterable[str] = (), version: str | None = None) -> Plan:
    """The plan of a new version, from the version and a re-scan that is built up to its mesh.

    Stages run as in the version's build, but for what the settings change.

    Raises:
        BundleError: As `plan_again`.
        CardError: When a setting or the version is wrong.
    """
    manifest, out, work = bundle.manifest, bundle.root.parent.parent, again.work
    results = {stage.name: (stage.key, stage.folder) for stage in again.stages}
    source = again.stages[0].inputs["source"]
    given = {
        "source": (again.stages[0].key, source),
        "before": (bundle.files.sha256, bundle.root),
        **{name + BEFORE: found for name, found in _left(bundle).items()},
        **{name + AGAIN: found for name, found in results.items()},
    }
    own = UpdateParams(source=_source_name(source, bundle))
    params = {**_params(manifest.provenance.stages, settings), **dict.fromkeys(("update", *OWN), own)}
    origin = manifest.provenance.origin
    traits = replace(
        again.traits,
        kind=again.traits.kind if origin == "captured" else origin,
        frames=again.traits.frames + len(bundle.cameras),
    )
    first = [replace(stage, stage=replace(stage.stage, name=stage.name + AGAIN)) for stage in again.stages]
    return plan_stages(UPDATE_STAGES, traits, given, params, about(manifest, source.name), work, out, version, first)


def about(manifest: Manifest, source: str) -> dict[str, Any]:
    """What a new version says of itself: what the version says, and that a re-scan came to it."""
    return {
        "name": manifest.name,
        "source": f"{manifest.provenance.source} + {source}",
        "licence": manifest.provenance.licence,
        "description": manifest.provenance.description,
        "parents": (manifest.reference,),
        **({"earth": manifest.frame.earth.model_dump()} if manifest.frame.earth else {}),
    }


def _left(bundle: Bundle) -> dict[str, tuple[str, Path]]:
    """Keys and folders of what the version's build left, by stage.

    Raises:
        BundleError: When one of them isn't there.
    """
    manifest, root = bundle.manifest, bundle.root
    work = root.parent.parent / ".work" / manifest.name
    keys = {record.name: record.key for record in manifest.provenance.stages if record.name in LEFT}
    found = {name: (key, work / name / key) for name, key in keys.items() if re.fullmatch("[0-9a-f]{1,64}", key)}
    missing = [name for name in LEFT if name not in found or not found[name][1].is_dir()]
    if missing or manifest.is_object:
        what = "an object by itself" if manifest.is_object else f"no results of {', '.join(missing)} in {work}"
        raise BundleError(
            "an update needs the version of a place, and what its build left beside it",
            found=what,
            remedy="update on the machine that built it; or build the version again from its capture: "
            f"`splatyard build CAPTURE --name {manifest.name} --version {manifest.version} --out {root.parent.parent}`",
            file=root,
        )
    return found


def _source_name(source: Path, bundle: Bundle) -> str:
    """What the re-scan's frames are called by: its name, with a number where an earlier one has that."""
    taken = {camera.name.partition("--")[0] for camera in bundle.cameras if "--" in camera.name}
    return names_of([source], taken)[0]


def _params(records: Iterable[StageRecord], settings: Iterable[str]) -> Mapping[str, Settings]:
    """The parameters of the version's build, with the settings and this machine's."""
    recorded = {record.name: record.params for record in records if record.name in PARAMS.keys() - set(OWN)}
    changes = parse_settings([*machine_settings(PARAMS), *settings], "splat.gaussians=60000", CardError)
    values = with_changes(recorded, changes)
    return {name: checked(kind, values.get(name, {}), name, CardError) for name, kind in PARAMS.items()}
