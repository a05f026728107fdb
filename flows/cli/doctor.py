"""`splatyard doctor`: what this machine can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from flows.cli import tables
from flows.cli.command import Arg, AsJson, Bundles, command
from pipeline import config

if TYPE_CHECKING:
    from flows.trials import Result
    from pipeline.running.doctor import Finding, Report


@command()
def doctor(
    *,
    as_json: AsJson = False,
    python: Annotated[str, Arg("Python interpreter with the packages of the GPU backends", "PROGRAM")] = "",
    trials: Annotated[
        bool,
        Arg(
            "run every available backend on a tiny input; networks without weights run with random ones",
            flag="--try",
        ),
    ] = False,
    out: Bundles = Path("bundles"),
) -> int:
    """Check what this machine can run, and what is missing.

    Checks hardware, packages, system libraries, backends and physics engines, and shows the exact command to install
    what is missing. Only packages with compiled parts are imported; --try runs everything. Exit code 1 if the CPU
    pipeline lacks something, or if something fails with --try.

    Examples:
        splatyard doctor
        splatyard doctor --try                           # takes a few minutes
        splatyard doctor --try --python learned/bin/python
        splatyard doctor --json
    """
    from pipeline.running.doctor import Report, examine
    from sim.physics.catalog import engine_findings

    report = examine(out, python)
    report = Report((*report.findings, *engine_findings()))
    results: list[Result] = []
    if not as_json:
        _show(report, folds=not python)
        _show_settings()
    if trials:
        from flows.trials import try_all

        for result in try_all(python):
            results.append(result)
            if not as_json:
                style = {"works": "green", "fails": "bold red", "not here": "dim"}[result.state]
                cost = f"{result.seconds:6.1f} s {result.memory / 2**20:6.0f} MiB" if result.seconds else " " * 19
                tables.say(f"{result.name:24} ", (f"{result.state:8}", style), f" {cost}  {result.detail}")
    if as_json:
        tried = {"trials": [asdict(result) for result in results]} if trials else {}
        settings = {name: {"value": config.setting(name), "from": config.origin(name)} for name in config.SETTINGS}
        own = {"config": {"file": config.config_file(), "settings": settings}}
        tables.show_json(report.to_json() | own | tried)
    failed = any(result.state == "fails" for result in results)
    return 0 if report.ready and not failed else 1


def _show_settings() -> None:
    file = config.config_file()
    tables.say(f"config     {tables.quoted(file)}{'' if file.exists() else ' (not there)'}")
    rows = [(name, config.setting(name), config.origin(name)) for name in config.SETTINGS]
    tables.table("defaults", ["key", "value", "from"], rows)


def _show(report: Report, *, folds: bool) -> None:
    """The verdict, then all findings by group; without a GPU those about GPUs are one line, if it `folds`."""
    from pipeline.running.doctor import GPU_GROUP

    if report.ready:
        tables.say(("the CPU pipeline runs here", "bold green"))
    else:
        tables.say(("the CPU pipeline lacks something here. In this order:", "bold red"))
        for line in commands(finding for finding in report.findings if finding.needed):
            tables.say(f"  {line}")
    has_gpu = any(finding.name == "CUDA" and finding.state == "ok" for finding in report.findings)
    states = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "missing": ("MISSING", "bold red")}
    for group, findings in groupby(report.findings, key=lambda finding: finding.group):
        findings = list(findings)
        if folds and group == GPU_GROUP and not has_gpu:
            tables.say(f"{group}: no NVIDIA GPU here, or no driver for it; --json shows what they would need")
            continue
        rows = [
            (
                finding.name,
                ("missing", "dim") if finding.state == "missing" and not finding.needed else states[finding.state],
                finding.detail,
                "the commands below" if "\n" in finding.remedy else finding.remedy,
            )
            for finding in findings
        ]
        tables.table(group, ["name", "state", "found", "command or step"], rows)
        several = dict.fromkeys(line for f in findings if "\n" in f.remedy for line in f.remedy.splitlines())
        for line in several:  # whole lines, to be copied
            tables.say(f"  {line}")


def commands(findings: Iterable[Finding]) -> list[str]:
    """Each remedy once; all of apt-get's in one."""
    prefix = "apt-get install -y "
    remedies = list(dict.fromkeys(f.remedy for f in findings if f.state == "missing" and f.remedy))
    packages = [remedy.removeprefix(prefix) for remedy in remedies if remedy.startswith(prefix)]
    others = [remedy for remedy in remedies if not remedy.startswith(prefix)]
    return ([prefix + " ".join(packages)] if packages else []) + others
