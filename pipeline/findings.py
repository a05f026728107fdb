"""What `splatyard doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: machine, packages, system libraries, backends, GPU backends or physics engines.
        name: What it is.
        state: Whether it is there; "warning" works, but slowly or barely.
        needed: Whether the CPU pipeline can't do without it.
        detail: What was found.
        remedy: The commands or the step that mends it, a line each; empty when all is well.
    """

    group: str
    name: str
    state: State
    needed: bool
    detail: str
    remedy: str = ""
