"""Rows of metrics, and docs/benchmarks.md: every benchmark writes its own sections and leaves the others."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Row:
    """One metric and its target; a metric without a target is for comparison."""

    metric: str
    value: float
    unit: str
    sign: Literal["<=", ">="] | None = None
    target: float | None = None

    @property
    def verdict(self) -> str:
        """`reached`, `**not reached**` or nothing without a target."""
        if self.sign is None or self.target is None:
            return ""
        reached = self.value <= self.target if self.sign == "<=" else self.value >= self.target
        return "reached" if reached else "**not reached**"

    def line(self) -> str:
        """The row in Markdown."""
        bar = "" if self.sign is None else f"{'≤' if self.sign == '<=' else '≥'} {self.target:g} {self.unit}".strip()
        return f"| {self.metric} | {self.value:.4g} {self.unit} | {bar} | {self.verdict} |"


def section(name: str, command: str, text: str, rows: list[Row], *after: str) -> str:
    """One section in Markdown: heading, what was measured, the command, the table, remarks."""
    table = ["| metric | measured | must be | |", "| --- | ---: | ---: | --- |", *(row.line() for row in rows)]
    return "\n".join([f"## {name}", "", f"{text} `{command}`", "", *table, "", *after]).rstrip() + "\n"


def update_page(sections: dict[str, str], page: Path = PAGE) -> None:
    """Replace the given sections of the page, append new ones, keep all others."""
    machine = f"{os.cpu_count()} cores ({_processor()}), {platform.machine()}, Python {platform.python_version()}"
    note = f"Measured by the `make bench` targets on {machine}. "
    note += "Machines differ and timings are noisy: compare CPU-seconds."
    old = page.read_text() if page.exists() else ""
    kept = {found.group(1): found.group(0) for found in re.finditer(r"^## (.+)\n(?:(?!## ).*\n?)*", old, re.M)}
    kept |= sections
    page.write_text("\n".join(["# Benchmarks", "", note, "", *(text.rstrip() + "\n" for text in kept.values())]))


def _processor() -> str:
    """The CPU's name, and the widest vectors that it has."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(re.findall(r"^(model name|flags)\s*: (.*)$", text, re.M))
    widest = next((kind for kind in ("avx512f", "avx2") if kind in fields.get("flags", "").split()), "no AVX2")
    return f"{fields.get('model name', platform.processor() or 'unknown')}, {widest}"
