"""Programs that compute poses, and how the files in which they store them are recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.capture.source import CaptureSource

MARK_BYTES = 4096
"""Bytes of a file in which a program's mark is looked for."""


@dataclass(frozen=True)
class Program:
    """A program that computes poses, and how its file of them is told from others.

    Attributes:
        name_pattern: Of the whole name of the file.
        mark: In the first bytes of the file.
        export: What to do in the program to get the same as a COLMAP project, a clause.
        folders: Those of a capture in which its file is read; "" is the capture's own.
        spare: As `Reader.spare`.
    """

    name: str
    name_pattern: str
    mark: bytes
    export: str
    folders: tuple[str, ...] = ("",)
    spare: str = ""

    def wrote(self, source: CaptureSource, name: str) -> bool:
        """Whether it wrote the file of that name."""
        fits = re.fullmatch(self.name_pattern, name) is not None
        return fits and re.search(self.mark, source.head(name, MARK_BYTES)) is not None


REALITY_CAPTURE = Program(
    "RealityCapture or RealityScan",
    r"(?i:(?:.*/)?[^/]*\.csv)",
    rb"(?i)#name,x,y,alt,heading,pitch,roll,f,",
    "in RealityScan choose Workflow, Export, Registration, COLMAP",
)
METASHAPE = Program(
    "Metashape",
    r"(?i:(?:.*/)?[^/]*\.xml)",
    rb"<document[^>]*>\s*<chunk",
    "in Metashape choose File, Export, Export Cameras, COLMAP",
)
MESHROOM = Program(
    "Meshroom",
    r"(?i:(?:.*/)?[^/]*\.(?:sfm|json))",
    rb'^\s*\{\s*"version"\s*:\s*\[[^\]]*\]\s*,\s*"(?:featuresFolders|matchesFolders|views)"\s*:',
    "in Meshroom add a node ConvertSfMFormat or ExportColmap",
    spare=r".*\.(?:mg|abc)|.*\.sfm",
)
OPENSFM = Program(
    "OpenSfM or ODM",
    r"(?:.*/)?reconstruction[^/]*\.json",
    rb'^\s*\[\s*\{[^}]*"(?:cameras|shots|biases|points|reference_lla|rig_cameras)"\s*:',
    "run `opensfm export_colmap PROJECT`",
    folders=("", "opensfm", "opensfm/undistorted"),
)
BUNDLER = Program(
    "Bundler",
    r"(?:.*/)?[^/]*\.out",
    rb"^\s*# Bundle file v0\.3",
    "open it in a program that writes COLMAP projects",
    folders=("", "bundle"),
)
PROGRAMS = (REALITY_CAPTURE, METASHAPE, MESHROOM, OPENSFM, BUNDLER)
"""Programs whose files of poses are read where they place the images; else they are named."""
