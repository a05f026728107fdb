"""The documentation as a web site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def build_site(folder: Path) -> None:
    """As `make site` does, into a folder."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr


def test_every_page_is_built_and_every_link_leads_somewhere(tmp_path: Path):
    """By the strict mode of the generator; pages ask no other server for anything, and the API is on its page."""
    build_site(tmp_path)
    pages = [page.relative_to(tmp_path) for page in tmp_path.rglob("index.html")]
    assert len(pages) == len([*(ROOT / "docs").rglob("*.md")])
    for page in pages:
        text = (tmp_path / page).read_text()
        assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="https?://', text), page
    assert 'id="pipeline.scenes.bundle.Bundle.open"' in (tmp_path / "api" / "index.html").read_text()
