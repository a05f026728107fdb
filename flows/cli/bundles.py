"""Bundles: looked at, checked, compared, and their objects cut out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import pipeline
from flows.cli import tables
from flows.cli.command import Arg, AsJson, BundleName, Bundles, Port, Version, command
from pipeline.errors import BundleError
from pipeline.io.files import readable

if TYPE_CHECKING:
    from pipeline import Bundle
    from pipeline.check.quality import Gate
    from pipeline.earth import Earth
    from pipeline.objects.listing import SceneObject

T = TypeVar("T")


@command()
def view(
    bundle: BundleName,
    *,
    port: Port = 8080,
    host: Annotated[str, Arg("address to serve on; 0.0.0.0 opens it to the network")] = "127.0.0.1",
    out: Bundles = Path("bundles"),
) -> int:
    """View a bundle in the browser.

    Serves a page with splat, mesh, cameras, floor and spawn points until Ctrl-C. Click an object to identify it; a
    button cuts out movable ones, as `splatyard bundle objects --cut` does.

    Examples:
        splatyard view bundles/hall/1.0.0
        splatyard view hall@1.0.0 --port 9000 --host 0.0.0.0       open to the network
    """
    opened = pipeline.Bundle.open(bundle)
    from flows.view import serve  # once there is a bundle: it brings what draws

    serve(opened, host=host, port=port, out=out)
    return 0


@command()
def inspect(bundle: BundleName, *, as_json: AsJson = False) -> int:
    """Show a bundle's metrics, gates, sources and files.

    Shows quality gates, metrics, where frame and scale come from, how each stage was run, and all files.

    Examples:
        splatyard bundle inspect bundles/hall/1.0.0
        splatyard bundle inspect hall@1.0.0 --json
    """
    opened = pipeline.Bundle.open(bundle)
    if as_json:
        tables.show_json(to_json(opened))
    else:
        _show(opened)
    return 0


def _point(text: str) -> tuple[float, float, float]:
    x, y, z = map(float, text.split(","))
    return x, y, z


@command("objects")
def list_objects(
    bundle: BundleName,
    *,
    page: Annotated[Path | None, Arg("write a page with a picture of each object", "FILE.html")] = None,
    cut: Annotated[tuple[str, ...], Arg("cut out this object with everything on it; repeatable", "NAME")] = (),
    near: Annotated[
        tuple[float, float, float] | None, Arg("cut out the object at this point [m]", "X,Y,Z", _point)
    ] = None,
    all_movable: Annotated[bool, Arg("cut out every movable object")] = False,
    moved: Annotated[
        Path | None, Arg("cut out what moved between this bundle and a later scan, with joints", "BUNDLE")
    ] = None,
    out: Bundles = Path("bundles"),
    version: Version = None,
    as_json: AsJson = False,
) -> int:
    """List the objects in a bundle, or cut them out as bodies.

    Objects are the connected components of the mesh without floor, walls and ceiling. Each is closed to a solid body:
    a box where one fits, otherwise down to its support wherever no camera saw through.

    With --cut, --near or --all-movable, writes a new version of the bundle: these objects become separate bodies with
    splat, convex pieces, mass and friction, and the holes they leave are filled. --all-movable leaves objects in place
    that would fall over.

    With --moved, compares the bundle with a later scan of the same place to find doors, drawers and objects that
    moved. Each is cut out, even if it is attached to the building, and gets the joint that its two poses imply.

    Examples:
        splatyard bundle objects hall
        splatyard bundle objects bundles/hall/1.0.0 --page objects.html
        splatyard bundle objects hall --cut box-3
        splatyard bundle objects hall --near 1.2,0.4,0.8
        splatyard bundle objects hall --all-movable
        splatyard bundle objects hall --moved hall_later --page moved.html
    """
    if moved:
        if cut or near or all_movable:
            raise _not_with_moved()
        return _cut_moved(bundle, moved, page, out, version, as_json=as_json)
    opened = pipeline.Bundle.open(bundle)
    from pipeline.objects.listing import objects_of, write_page

    objects = objects_of(opened)
    if not as_json:
        _show_objects(opened, objects)
    if page:
        write_page(opened, objects, page)
        tables.say(f"written    {tables.quoted(page)}")
    made = None
    if cut or near or all_movable:
        from pipeline.objects.version import chosen_objects, cut_out

        chosen = chosen_objects(objects, cut, [near] if near else [], all_movable=all_movable)
        made = cut_out(opened, chosen, out, version, proposed=all_movable)
    if as_json:
        tables.show_json({"bundle": opened.manifest.reference, "objects": [*map(_values, objects)], "new_bundle": made})
    elif made:
        _show_cut(made)
    return 0


def _not_with_moved() -> BundleError:
    return BundleError(
        "--moved selects the objects itself",
        found="--moved with --cut, --near or --all-movable",
        remedy="use one or the other: all objects of a version are cut at once",
    )


def _show_objects(bundle: Bundle, objects: Sequence[SceneObject]) -> None:
    rows = ((one.name, one.lengths, one.on, f"{one.seen:.0%}", one.fixed or "yes", one.remarks) for one in objects)
    columns = ["object", "size [m]", "stands on", ">observed", "movable", "notes"]
    tables.table(f"{bundle.manifest.reference}: {len(objects)} objects", columns, rows)


def _values(one: SceneObject) -> dict[str, object]:
    size = {"size_m": one.body.size.tolist(), "sigma_m": one.body.sigma.tolist()}
    return {"name": one.name, **size, "on": one.on, "seen": one.seen, "fixed": one.fixed, "touches": one.touches}


def _cut_moved(
    bundle: BundleName, later: Path, page: Path | None, out: Path, version: str | None, *, as_json: bool
) -> int:
    from pipeline.changes.objects import compare_scans, cut_moved
    from pipeline.changes.page import said_motion, said_registration, write_moved_page

    compared = compare_scans(pipeline.Bundle.open(bundle), pipeline.Bundle.open(later))
    if not as_json:
        tables.say(f"aligned    {said_registration(compared.registration)}")
    rows = [(thing.object.name if thing.object else "-", thing.kind, said_motion(thing)) for thing in compared.things]
    for kind, pieces in (("gone", compared.changes.gone), ("new", compared.changes.new)):
        for piece in pieces:
            size = " x ".join(f"{edge:.2f}" for edge in piece.high - piece.low)
            rows.append(("-", kind, f"{size} m, in one scan only"))
    title = f"{compared.first.manifest.reference} and {compared.second.manifest.reference}"
    if not as_json:
        tables.table(title, ["object", "kind", "motion"], rows)
    if page:
        write_moved_page(compared, page)
        tables.say(f"written    {tables.quoted(page)}")
    made = cut_moved(compared, out, version)
    if as_json:
        named = [dict(zip(("object", "kind", "motion"), row, strict=True)) for row in rows]
        tables.show_json({"bundles": title.split(" and "), "moved": named, "new_bundle": made})
    else:
        _show_cut(made)
    return 0


def _show_cut(folder: Path) -> None:
    """The gates of a new version's objects, what was cut out, and where it lies."""
    made = pipeline.Bundle.open(folder)
    tables.show_gates([gate for gate in made.quality.gates if gate.name.startswith("objects_")])
    tables.say(f"cut out    {', '.join(one.record.name for one in made.objects)}")
    tables.say(f"bundle     {tables.quoted(made.root)}")


def to_json(bundle: Bundle) -> dict[str, object]:
    """The manifest and the quality with its verdicts, as plain JSON values."""
    gates = [*map(tables.gate_values, bundle.quality.gates)]
    quality = {**bundle.quality.model_dump(mode="json"), "gates": gates, "passed": bundle.quality.passed}
    return {"manifest": bundle.manifest.model_dump(mode="json"), "quality": quality}


def _show(bundle: Bundle) -> None:
    manifest = bundle.manifest
    tables.table(manifest.reference, ["property", "value"], facts(bundle))
    tables.show_gates(bundle.quality.gates)
    tables.table("metrics", ["metric", "value"], flat(bundle.quality.metrics))
    stages = ((stage.name, stage.backend, stage.reason, stage.key) for stage in manifest.provenance.stages)
    tables.table("stages", ["stage", "backend", "why", "key"], stages)
    files = ((name, readable(entry.bytes), entry.sha256[:12]) for name, entry in manifest.files.items())
    tables.table("files", ["file", ">size", "sha256"], files)


def facts(bundle: Bundle) -> Iterator[tuple[str, str]]:
    """Name and text of everything that fits on one line."""
    from pipeline.scenes.manifest import ORIGINS

    manifest, frame, provenance = bundle.manifest, bundle.manifest.frame, bundle.manifest.provenance
    yield "folder", str(bundle.root)
    yield "description", provenance.description or "-"
    yield "source", provenance.source
    yield "origin", ORIGINS[provenance.origin]
    yield "licence", provenance.licence
    yield "parents", ", ".join(manifest.parents) or "-"
    yield "quality", "all gates passed" if manifest.quality_passed else f"FAILED: {', '.join(manifest.failed_gates)}"
    yield "frame", f"z up, metres; floor {'found' if frame.floor_found else 'guessed'}"
    if frame.earth is not None:
        yield (
            "on the Earth",
            (
                f"{frame.earth.latitude_deg:.6f}, {frame.earth.longitude_deg:.6f} (WGS 84); "
                f"x looks {frame.earth.heading_deg % 360:.1f} degrees from north, clockwise"
                f"{_sure(frame.earth)}"
            ),
        )
    yield "gravity from", _measured(frame.gravity_from.source, frame.gravity_from.sigma, "degrees", 1)
    yield "scale from", _measured(frame.scale_from.source, frame.scale_from.sigma, "%", 100)
    cameras = bundle.cameras
    yield "cameras", f"{len(cameras)}, {sum(camera.held_out for camera in cameras)} of them held out"
    yield from reported(manifest.report)
    yield "spawn poses", str(len(bundle.spawn_poses))
    for level, splat in manifest.splats.items():
        yield f"splat {level}", f"{splat.gaussians} Gaussians, SH degree {splat.sh_degree}"
    yield "size", readable(sum(entry.bytes for entry in manifest.files.values()))
    yield "packages", ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    yield "machine", ", ".join(provenance.machine.values())


def _sure(earth: Earth) -> str:
    """How sure a place on the Earth is that positions by satellites gave."""
    if earth.position_sigma_m is None or earth.heading_sigma_deg is None:
        return ""
    return f" (by GPS: ±{earth.position_sigma_m:.1f} m, ±{earth.heading_sigma_deg:.1f} degrees)"


def _measured(source: str, sigma: float | None, unit: str, factor: float) -> str:
    return f"{source}, a guess" if sigma is None else f"{source} ± {sigma * factor:.3g} {unit}"


def reported(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the stages report; a report of an unknown form, as a stranger's bundle may hold, is one line."""
    from pipeline.capture.model import left_out_lines

    def compared(what: str, key: str, unit: str, factor: float) -> Iterator[tuple[str, str]]:
        """How far each source of gravity or scale is off the result, where there are several."""
        sources = report.get("align", {}).get(what, [])
        if len(sources) > 1:
            yield f"{what} compared", ", ".join(f"{s['source']} {s[key] * factor:.2g} {unit} off" for s in sources)

    try:
        return [
            *compared("gravity", "off_the_result_deg", "degrees", 1),
            *compared("scale", "off_the_result", "%", 100),
            *left_out_lines(report.get("capture", {})),
            *(("ASSUMED", str(note)) for note in report.get("capture", {}).get("assumed", ())),
            *(("poses", str(note)) for note in report.get("poses", {}).get("notes", ())),
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        return [("report", "of a form that can't be read")]


def flat(metrics: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of every value of nested metrics."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(value)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)


@command()
def check(bundle: BundleName, *, as_json: AsJson = False) -> int:
    """Verify a bundle's hashes and quality gates.

    Reads every file, compares it with its hash in the manifest, and compares each gate's metric with its threshold.
    Also lists the images of the capture that were left out, and why. Exit code 1 if a hash differs or a gate fails.

    Examples:
        splatyard bundle check bundles/hall/1.0.0
        splatyard bundle check hall@1.0.0 && echo usable
    """
    opened = pipeline.Bundle.open(bundle)
    from pipeline.capture.model import left_out_lines

    problems = opened.verify()
    gates = () if problems else opened.quality.gates  # metrics of damaged files would mean nothing
    problems = problems or gate_problems(opened)
    left_out = left_out_lines(opened.manifest.report.get("capture", {}))
    if as_json:
        named = {"bundle": opened.manifest.reference, "folder": opened.root, "passed": not problems}
        shown = {"problems": problems, "left_out": dict(left_out), "gates": [*map(tables.gate_values, gates)]}
        tables.show_json({**named, **shown})
        return 1 if problems else 0
    if gates:
        tables.show_gates(gates)
    for name, text in left_out:
        tables.say(f"{name}: {text}")
    for problem in problems:
        tables.say(("failed:", "bold red"), f" {problem}")
    if not problems:
        count = len(opened.manifest.files)
        tables.say((f"all {count} files match the manifest, and all gates passed", "bold green"))
    return 1 if problems else 0


def gate_problems(bundle: Bundle) -> list[str]:
    """Gates that fail, and a manifest that contradicts its gates."""
    quality, manifest = bundle.quality, bundle.manifest
    problems = [f"gate {name}" for name in quality.failed]
    if (manifest.quality_passed, set(manifest.failed_gates)) != (quality.passed, set(quality.failed)):
        named = ", ".join(manifest.failed_gates) or "none"
        problems.append(f"bundle.json lists other failed gates ({named}) than quality.json")
    return problems


@command()
def diff(
    before: Annotated[str, Arg("the older bundle: a folder, name@version, or one in a registry", "BUNDLE")],
    after: Annotated[str, Arg("the newer bundle", "BUNDLE")],
    *,
    page: Annotated[Path | None, Arg("compare surfaces, too, and write a page with images", "FILE.html")] = None,
    as_json: AsJson = False,
) -> int:
    """Compare two bundles.

    Compares files, Gaussians, meshes, frame and gate metrics, and says which version number the newer bundle needs.
    From a registry, only the compared files are downloaded.

    With --page, finds what moved, is gone or is new in the place: a table, and images of both states.

    Examples:
        splatyard bundle diff hall@1.0.0 hall@1.1.0
        splatyard bundle diff hall@1.0.0 hall@1.1.0 --page changes.html
        splatyard bundle diff bundles/hall/1.0.0 registry:./yard/hall@latest
        splatyard bundle diff hf://owner/scenes/hall@1.0.0 hf://owner/scenes/hall@1.1.0
    """
    from pipeline.publish.diff import difference

    bundles = pipeline.Bundle.open(before), pipeline.Bundle.open(after)
    names = [bundle.manifest.reference for bundle in bundles]
    found, surfaces = difference(*bundles), None
    if page:
        from pipeline.changes.differences import compare_bundles

        surfaces = compare_bundles(*bundles, page)
    if as_json:
        gates = {name: [gate and tables.gate_values(gate) for gate in pair] for name, pair in found.gates.items()}
        tables.show_json({"before": names[0], "after": names[1], **vars(found), "gates": gates, "surfaces": surfaces})
        return 0
    if not found.files:
        tables.say(f"{names[0]} and {names[1]} have the same files")
    gaussians = {level: pair for level, pair in found.gaussians.items() if pair[0] != pair[1]}
    rows = [
        *_changes("", found.files, lambda entry: readable(entry.bytes)),
        *_changes("splat ", gaussians, lambda count: f"{count:,} Gaussians"),
        *_changes("size of ", found.meshes, lambda size: f"{size[0]:,} vertices, {size[1]:,} triangles"),
        *_changes("frame ", found.frame, str),
    ]
    columns = [f">{name}" for name in names]
    tables.table("differences", ["item", *columns, ""], rows)
    tables.table("quality", ["gate", *columns, ""], [_gate_change(*pair) for pair in found.gates.values()])
    tables.say(f"{names[1]} needs at least a {found.change} version bump over {names[0]}: {found.why}")
    if page and surfaces is not None:
        tables.show_differences((names[0], names[1]), surfaces)
        tables.say(f"written    {tables.quoted(page)}")
    return 0


def _changes(
    prefix: str, pairs: Mapping[str, tuple[T | None, T | None]], text: Callable[[T], str]
) -> Iterator[tuple[str, str, str, str]]:
    for name, (before, after) in pairs.items():
        verb = "" if before == after else "added" if before is None else "removed" if after is None else "changed"
        old, new = ("-" if one is None else text(one) for one in (before, after))
        yield prefix + name, old, new, verb


def _gate_change(before: Gate | None, after: Gate | None) -> tuple[str, str, str, tables.Part]:
    gate = after or before
    assert gate is not None
    old, new = ("-" if one is None else tables.metric(one.value, one.unit) for one in (before, after))
    verdicts = {True: ("passes", "green"), False: ("FAILS", "bold red"), None: ("not measured", "dim")}
    verdict, style = verdicts[gate.passed]
    unlike = ", changed" if before and after and before.passed != after.passed else ""
    return gate.title, old, new, (verdict + unlike, style)
