"""A build that can be looked at while it runs: the page's process (`flows.build_page`), and what that is told.

It reads what the stages publish and disturbs none of them. The build tells it how far it is, a line of JSON each time;
when these lines end, with the build or because it was killed, it ends, too.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from pipeline.io.files import machine_errors
from pipeline.io.results import preview_folder
from pipeline.preview.time_left import TimeLeft
from pipeline.previews import PUBLISHING
from pipeline.running.building import Plan

END_SECONDS = 10.0
"""Time for the page to end once it has been told to."""


class Stages(BaseModel):
    """The first line: the build's name, its folders of results by stage, and `TimeLeft.expected`."""

    kind: Literal["stages"] = "stages"
    name: str
    folders: dict[str, Path]
    expected: dict[str, float | None]


class Began(BaseModel):
    """A stage began."""

    kind: Literal["began"] = "began"
    stage: str


class Compiling(BaseModel):
    """The stages compile their kernels, which takes time, as in the first build on a machine."""

    kind: Literal["compiling"] = "compiling"


class Done(BaseModel):
    """The build is done; there is a bundle unless it ended before."""

    kind: Literal["done"] = "done"
    bundle: Path | None


Message = Stages | Began | Compiling | Done
Line = TypeAdapter[Message](Annotated[Message, Field(discriminator="kind")])


class BuildView:
    """The page's process, seen from the build: it lives until `close`, or as long as the build does."""

    def __init__(self) -> None:
        self._published: list[Path] = []
        self._process = subprocess.Popen(
            [sys.executable, "-Pm", "flows.build_page"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches all processes of a session
        )

    def start(self, planned: Plan, left: TimeLeft) -> None:
        """Show a plan's build, which begins now: its stages publish from now on.

        Raises:
            MachineError: When a folder can't be made.
        """
        for stage in planned.pending:
            folder = preview_folder(stage.folder)
            if stage.name in PUBLISHING and not folder.exists():  # else it is another page's, or a kill left it
                with machine_errors(folder):
                    folder.mkdir(parents=True)
                self._published.append(folder)
        folders = {stage.name: stage.folder for stage in planned.stages}
        self.tell(Stages(name=planned.name, folders=folders, expected=left.expected))

    def tell(self, line: Message) -> None:
        """Tell the page; one that has ended is no error of the build's."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.model_dump_json() + "\n")
            self._process.stdin.flush()

    def wait(self) -> None:
        """Until Ctrl-C, or until the page ends by itself."""
        with contextlib.suppress(KeyboardInterrupt):
            self._process.wait()

    def close(self) -> None:
        """End the page, and publish nothing any more."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for folder in self._published:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # holds what its stage resumes from
                folder.parent.rmdir()
