"""What a repository on the hub shows: a table for its dataset viewer, with a row per scene, and the dataset card."""

from __future__ import annotations

import html
import io
import json
import logging
import re
from functools import partial
from types import ModuleType
from typing import Annotated, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import install
from pipeline.io.files import counted
from pipeline.io.pages import render
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.licences import plain_licence
from pipeline.scenes.references import HUB
from pipeline.scenes.summary import SceneSummary

logger = logging.getLogger(__name__)

TABLE, CARD = "index.parquet", "README.md"
MAX_TABLE_BYTES = 256 * 2**20
MAX_ROWS = 100_000
ROWS_AT_ONCE = 16
THUMBNAIL = (320, 240)
"""Width and height that an image is brought down to [px]."""
SHOWN_ROWS, MAX_IMAGES = 100, 12
"""Rows and images that the dataset card shows; the dataset viewer shows all."""
LICENCES = {
    **{name: name for name in ("cc0-1.0", "mit", "isc", "unlicense", "apache-2.0", "bsd-2-clause", "bsd-3-clause")},
    **{f"cc-by{kind}-4.0": f"cc-by{kind}-4.0" for kind in ("", "-sa", "-nc", "-nd", "-nc-sa", "-nc-nd")},
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
"""The hub's own names, by SPDX ids."""
METRICS = {
    "held_out_psnr": "psnr_db",
    "splat_mesh_depth": "splat_to_mesh_m",
    "scale": "scale_error",
    "walkable": "floor_m2",
    "coverage": "coverage",
}
"""Columns of the table by the gates whose metrics they hold."""
TITLES = ("scene", "quality", "PSNR [dB]", "floor [m²]", "MB", "licence", "what it is")
"""Columns of the card."""


class Thumbnail(BaseModel):
    """A small JPEG as the hub's `datasets` takes it, and the path of the whole image in the repository."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: bytes
    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,400}$")]


class Row(BaseModel):
    """The row of a scene's newest version: of its `SceneSummary`, an image of the splat, and `METRICS` where known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: Thumbnail | None
    scene: str
    version: str
    description: str
    origin: str
    source: str
    licence: str
    passed: bool
    failed_gates: str
    psnr_db: float | None = None
    splat_to_mesh_m: float | None = None
    scale_error: float | None = None
    floor_m2: float | None = None
    coverage: float | None = None
    gaussians: int
    bytes: int
    sha256: str

    @property
    def reference(self) -> str:
        """name@version."""
        return f"{self.scene}@{self.version}"


def row_of(entry: SceneSummary, bundle: Bundle | None) -> Row:
    """The row of a version; without its bundle it has neither image nor metrics.

    Raises:
        BundleError: When the bundle is damaged.
        MachineError: When its files can't be reached.
    """
    metrics = {gate.name: gate.value for gate in bundle.quality.gates} if bundle else {}
    return Row(
        image=_thumbnail(bundle) if bundle else None,
        scene=entry.name,
        version=entry.version,
        description=entry.description,
        origin=entry.origin,
        source=entry.kind,
        licence=entry.licence,
        passed=not entry.failed_gates,
        failed_gates=", ".join(entry.failed_gates),
        **{column: metrics.get(gate) for gate, column in METRICS.items()},
        gaussians=entry.gaussians,
        bytes=entry.bytes,
        sha256=entry.sha256,
    )


def _thumbnail(bundle: Bundle) -> Thumbnail | None:
    import numpy as np
    from PIL import Image

    from pipeline.scenes.images import compared_views

    view = next(iter(compared_views(bundle)), None)
    if view is None:
        return None
    path, _, rendering = view
    image, content = Image.fromarray(np.ascontiguousarray(rendering)), io.BytesIO()
    image.thumbnail(THUMBNAIL)
    image.save(content, "JPEG", quality=86)
    manifest = bundle.manifest
    return Thumbnail(bytes=content.getvalue(), path=f"{manifest.name}/{manifest.version}/{path}")


def table(rows: list[Row]) -> bytes | None:
    """A Parquet file of the rows, whose images the hub's `datasets` takes as such; without pyarrow None, and a note."""
    arrow = _arrow()
    if arrow is None:
        logger.warning("published without a table for the dataset viewer: it needs %s", install("publish"))
        return None
    kinds = {
        Thumbnail: ("Image", arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})),
        bool: ("bool", arrow.bool_()),
    }
    kinds |= {str: ("string", arrow.string()), int: ("int64", arrow.int64()), float: ("float64", arrow.float64())}
    hints = {name: get_args(field.annotation) or (field.annotation,) for name, field in Row.model_fields.items()}
    columns = {name: kinds[hint[0]] for name, hint in hints.items()}  # the other one is None
    features = {
        name: {"_type": "Image"} if kind == "Image" else {"dtype": kind, "_type": "Value"}
        for name, (kind, _) in columns.items()
    }
    schema = arrow.schema(
        [(name, kind) for name, (_, kind) in columns.items()],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    written = io.BytesIO()
    arrow.parquet.write_table(arrow.Table.from_pylist([row.model_dump() for row in rows], schema), written)
    return written.getvalue()


def read_table(content: bytes) -> list[Row]:
    """The rows of a table; none without pyarrow, or, with a warning, where it isn't ours or is far larger unpacked."""
    arrow = _arrow()
    if arrow is None:
        return []
    rows: list[Row] = []
    unpacked = 0
    try:
        for batch in arrow.parquet.ParquetFile(io.BytesIO(content)).iter_batches(batch_size=ROWS_AT_ONCE):
            unpacked += batch.nbytes
            if unpacked > MAX_TABLE_BYTES or len(rows) > MAX_ROWS:
                raise OSError(f"{unpacked} bytes in {len(rows)} rows and more")
            rows += [Row(**one) for one in batch.to_pylist()]
        return rows
    except (arrow.ArrowException, OSError, AttributeError, TypeError, ValidationError) as error:
        logger.warning("%s is none of splatyard's, and is made again: %s", TABLE, str(error).split("\n")[0])
        return []


def _arrow() -> ModuleType | None:
    """The module pyarrow, if it is installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    return pyarrow


def card(repository: str, rows: list[Row], *, versions: int, has_table: bool) -> str:
    """The dataset card of owner/repository: README.md with its YAML; `versions` counts yanked ones, too."""
    shown = rows[0].reference if rows else "name@1.0.0"
    front = _front_matter(repository, rows, has_table=has_table)
    return render(
        "pipeline.publish",
        "dataset_card.md",
        front_matter=yaml.safe_dump(front, sort_keys=False, allow_unicode=True),
        repository=repository,
        scenes=counted(len(rows), "scene"),
        versions=counted(versions, "version"),
        titles=TITLES,
        rows=rows[:SHOWN_ROWS],
        left_out=len(rows[SHOWN_ROWS:]),
        images=[(row, row.image) for row in rows if row.image][:MAX_IMAGES],
        cells=partial(_cells, repository),
        page=partial(_page, repository),
        example=f"{HUB}{repository}/{shown}",
        folder=shown.replace("@", "/"),
    )


def _front_matter(repository: str, rows: list[Row], *, has_table: bool) -> dict[str, object]:
    licences = {LICENCES.get(plain_licence(row.licence)) for row in rows}
    (licence,) = licences if len(licences) == 1 else (None,)
    stated = {"license": licence} if licence else {"license": "other", "license_name": "see-each-scene"}
    viewed = [{"config_name": "scenes", "data_files": [{"split": "train", "path": TABLE}]}]
    return {
        **stated,
        "pretty_name": repository.partition("/")[2],
        "task_categories": ["robotics"],
        "tags": ["robotics", "gaussian-splatting", "real-to-sim", "3d", "simulation", "splatyard"],
        "size_categories": ["n<1K" if len(rows) < 1000 else "1K<n<10K" if len(rows) < 10_000 else "10K<n<100K"],
        **({"configs": viewed} if has_table else {}),
    }


def _cells(repository: str, row: Row) -> list[str]:
    made = "" if row.origin == "captured" else f"**{_text(row.origin)}** {_text(row.source)}: "
    return [
        f"[{_text(row.reference)}]({_page(repository, row)})",
        "passed" if row.passed else f"❌ **FAILED**: {_text(row.failed_gates)}",
        *("-" if value is None else f"{value:.1f}" for value in (row.psnr_db, row.floor_m2)),
        f"{row.bytes / 1e6:,.1f}",
        _text(row.licence),
        made + _text(row.description),
    ]


def _page(repository: str, row: Row) -> str:
    """The page of a version's folder, within the hub."""
    return f"/datasets/{repository}/tree/main/{row.scene}/{row.version}"


def _text(text: str) -> str:
    """As it stands, and neither Markdown nor HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|~:-])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
