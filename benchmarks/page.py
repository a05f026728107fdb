"""Rows of metrics, and docs/benchmarks/: every benchmark writes its own pages, and the index of all."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PAGES = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
INDEX = "index.md"
HEAD = [
    "# Benchmarks",
    "",
    "Each page is written by the command that it names. Machines differ and timings are noisy: compare CPU-seconds.",
    "",
    "| page | bars reached | not reached |",
    "| --- | ---: | ---: |",
]
BARS, MISSED = re.compile(r"\| (?:\*\*not )?reached\b"), re.compile(r"\| \*\*not reached")


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
    """One page in Markdown: heading, what was measured, the command, the table, remarks."""
    table = ["| metric | measured | must be | |", "| --- | ---: | ---: | --- |", *(row.line() for row in rows)]
    return "\n".join([f"# {name}", "", f"{text} `{command}`", "", *table, "", *after]).rstrip() + "\n"


def page_of(title: str, pages: Path = PAGES) -> Path:
    """The file of a title's page."""
    return pages / f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}.md"


def update_page(sections: dict[str, str], pages: Path = PAGES) -> None:
    """Write the pages of these titles, and the index anew; all other pages are kept."""
    machine = f"{os.cpu_count()} cores ({_processor()}), {platform.machine()}, Python {platform.python_version()}"
    for title, text in sections.items():
        page_of(title, pages).write_text(f"{text.rstrip()}\n\nMeasured on {machine}.\n")
    rows = []
    for page in sorted(pages.glob("*.md")):
        if page.name != INDEX:
            text = page.read_text()
            title, missed = text.partition("\n")[0].removeprefix("# "), len(MISSED.findall(text))
            rows.append(f"| [{title}]({page.name}) | {len(BARS.findall(text)) - missed or ''} | {missed or ''} |")
    (pages / INDEX).write_text("\n".join([*HEAD, *rows, ""]))


def _processor() -> str:
    """The CPU's name, and the widest vectors that it has."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    fields = dict(re.findall(r"^(model name|flags)\s*: (.*)$", text, re.M))
    widest = next((kind for kind in ("avx512f", "avx2") if kind in fields.get("flags", "").split()), "no AVX2")
    return f"{fields.get('model name', platform.processor() or 'unknown')}, {widest}"
