"""Plan and run an import: a bundle of a splat and a mesh that others made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CardError
from pipeline.importing.source import SourceFiles, find_source
from pipeline.importing.stages import IMPORT_STAGES, ImportParams
from pipeline.parameters import Settings, checked
from pipeline.regions.params import RegionsParams
from pipeline.running.building import Plan, plan_stages, run_plan
from pipeline.running.card import name_from
from pipeline.stage import Traits


@dataclass(frozen=True)
class ImportRequest:
    """What a user asks for.

    Attributes:
        source: A folder, or a splat's file.
        mesh: The mesh's file, where it lies elsewhere.
        name: Name of the scene; from the source's name when not given.
        out: Folder of bundles; results of the stages lie in its folder `.work/<name>`.
        about: Where it comes from, for people; the source's name when not given.
        generated: See `ImportParams`, as the next four.
        version: Version of the bundle; the next free one when not given.
    """

    source: Path
    mesh: Path | None = None
    name: str | None = None
    out: Path = Path("bundles")
    licence: str | None = None
    about: str | None = None
    description: str = ""
    generated: bool = False
    up: str | None = None
    up_sigma: float | None = None
    scale: float | None = None
    scale_sigma: float | None = None
    version: str | None = None


def import_bundle(request: ImportRequest) -> Path:
    """Make a bundle of others' files; returns its folder. What an earlier or a killed run finished is not done again.

    Raises:
        BundleError: When the files are of no form that can be read, or damaged.
        CardError: When an option is missing or impossible, or contradicts what the files say.
        ReconstructionError: When the mesh, or a splat alone, has no floor.
        SimError: When a GaussGym scene has no direction of gravity.
    """
    planned = plan_import(request)
    run_plan(planned)
    return planned.bundle_folder


def plan_import(request: ImportRequest) -> Plan:
    """Recognise the files and compute all keys.

    Raises:
        BundleError, CardError: As `import_bundle`.
    """
    names = ("up", "up_sigma", "scale", "scale_sigma", "generated")
    chosen = checked(ImportParams, {name: getattr(request, name) for name in names}, "import", CardError)
    path = request.source.expanduser()
    source = find_source(path, request.mesh)
    name = name_from(request.name or path.resolve().stem)
    about = {
        "name": name,
        "source": request.about or source.origin.get("source") or path.resolve().name,
        "licence": _licence(request, source),
        "description": request.description,
    }
    traits = Traits(source.form, 0, has_poses=False, has_depth=False, has_gravity=False, ordered=False)
    digest = source.sha256()
    given = {"source": (digest, path.absolute()), "mesh_file": (digest, source.mesh.absolute())}
    params = {"capture": chosen, "mesh": Settings(), "regions": RegionsParams(), "splat": Settings()}
    work = request.out.resolve() / ".work" / name
    return plan_stages(IMPORT_STAGES, traits, given, params, about, work, request.out, request.version)


def _licence(request: ImportRequest, source: SourceFiles) -> str:
    """What an export of ours says counts; the user may state the rest."""
    kept = source.origin.get("licence", "unknown")
    if kept == "unknown":
        return request.licence or kept
    if request.licence and request.licence != kept:
        raise CardError(
            "a scene keeps the licence that it came with",
            found=f"--licence {request.licence}, but its origin.json says {kept}",
            remedy="leave --licence out; only whose capture it is can change it",
            file=request.source,
        )
    return kept
