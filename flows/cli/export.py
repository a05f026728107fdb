"""`splatyard export`: a bundle in the form that another simulator takes, or a policy for a robot."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a bundle for another simulator or viewer, or a policy for a robot"
DESCRIPTION = """\
A bundle with --to: writes it for GaussGym (mesh slices and a nerfstudio splat), its meshes with an MJCF
or URDF file or both splat and collision mesh as USD for a simulator of your own, with spawn poses, goals and the floor
beside; its mesh as GLB, its splat as SOG or SPZ for web pages, or its cameras for nerfstudio and COLMAP. Licence and
origin lie beside each as origin.json.

A run with --onnx: writes its policy as one ONNX file, from what the robot measures to what its actuators aim at,
and says how far the file is from the policy over an episode and how long a step takes. If they differ, nothing is
written."""
EXAMPLES = """\
  splatyard export bundles/hall/1.0.0 --to gaussgym --out gaussgym/hall
  splatyard export hall@1.0.0 --to mjcf --out hall_mjcf
  splatyard export hall --to urdf --out hall_urdf
  splatyard export hall --to usd --out hall_usd
  splatyard export hall --to sog --out hall_web
  splatyard export navigate-hall-1 --onnx policy.onnx"""

FORMS = ("gaussgym", "mjcf", "urdf", "usd", "glb", "sog", "spz", "nerfstudio", "colmap")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    command.add_argument("what", metavar="WHAT", help="a bundle (folder, name@version, or hf://...), or a run")
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("--to", choices=FORMS, help="the form, for a bundle")
    form.add_argument("--onnx", type=Path, metavar="FILE.onnx", help="a file, for a run's policy")
    command.add_argument("--out", type=Path, metavar="DIR", help="a new folder, for a bundle; default: WHAT_FORM here")
    command.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="default: %(default)s")
    command.add_argument("--checkpoint", metavar="NAME", help="one of the run's checkpoints; default: the newest")
    command.add_argument("--allow-failed", action="store_true", help="of a run: take a bundle that failed gates too")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    return _policy(options) if options.onnx else _bundle(options)


def _bundle(options: argparse.Namespace) -> int:
    from pipeline import Bundle
    from pipeline.export.form import export
    from sim.export import catalog

    bundle, form = Bundle.open(options.what), catalog.FORMS[options.to]
    out = options.out or Path(f"{bundle.manifest.name}_{options.to}")
    export(bundle, form, out)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(path)
    if form.missing:
        print(f"without {form.missing}")
    return 0


def _policy(options: argparse.Namespace) -> int:
    from flows.cli import tables
    from train.onnx_export import export_run
    from train.run import Run
    from train.threads import use_one_thread

    use_one_thread()
    policy_of = Run.open(options.what, options.runs)
    name = options.checkpoint
    file = policy_of.checkpoints / f"{name.removesuffix('.pt')}.pt" if name else None
    done = export_run(policy_of, options.onnx, file=file, allow_failed=options.allow_failed)
    shapes = [("in", done.inputs), ("out", done.outputs)]
    rows = [(name, way, " x ".join(map(str, shape))) for way, one in shapes for name, shape in one.items()]
    tables.show(tables.plain_table(f"{policy_of.name}: {options.onnx.name}", ["name", "", "shape"], rows))
    tables.say(
        f"checked    {done.steps} steps, {done.episodes} new episodes: within {done.difference:.1e} of the policy"
    )
    tables.say(f"latency    {1e3 * done.median:.3f} ms a step, 95 % below {1e3 * done.slow:.3f} ms, on one thread")
    tables.say(f"written    {tables.quoted(options.onnx)}")
    return 0
