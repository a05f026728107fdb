"""The quality page: gates and pictures of one bundle, one file that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.check.quality import Gate, Quality

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .45rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.passed { color: #16803c; } .failed { color: #c62828; font-weight: 700; } .none { color: #888; }
.how { color: #777; font-size: .85rem; }
img { max-width: 100%; border-radius: 6px; display: block; }
figure { margin: 1rem 0; } figcaption { color: #777; font-size: .9rem; }
"""
PHOTOS = """<h2>Views that training never saw</h2>
<p class="how">Photo, picture of the splat, depth of the splat, depth of the mesh.</p>"""
LOOKOUTS = """<h2>Splat beside mesh</h2>
<p class="how">Views over the floor: picture of the splat, its depth, depth of the mesh.</p>"""
TRUSTED = """<h2>Where pictures can be trusted</h2>
<p class="how">The floor from above. A sector of a disc is the view from there in that direction: green can be trusted,
red can't. Blue arrows are spawn poses.</p>"""


def quality_page(
    quality: Quality,
    title: str,
    views: Sequence[tuple[str, str]],
    meshes: Sequence[str],
    coverage: str | None,
    left_out: Sequence[tuple[str, str]] = (),
) -> str:
    """HTML of the page.

    Args:
        quality: The gates.
        title: What the page is about.
        views: (picture path, caption) of held-out views, paths relative to the page.
        meshes: Picture paths of the mesh.
        coverage: Picture path of the coverage map; None for an imported scene, which has no photos either.
        left_out: Which pictures of the capture were not used, and how many why.
    """
    failed = len(quality.failed)
    passed = "all gates pass" if coverage else "no gate fails, but without the photos not all can be measured"
    verdict = passed if not failed else "1 gate fails" if failed == 1 else f"{failed} gates fail"
    rows = "\n".join(_row(gate) for gate in quality.gates)
    unused = "\n".join(f'<p class="how">{escape(name)}: {escape(text)}</p>' for name, text in left_out)
    pictures = "\n".join(_figure(path, caption) for path, caption in views)
    mesh = "\n".join(_figure(path, "") for path in meshes)
    seen = PHOTOS if coverage else LOOKOUTS
    trusted = f"{TRUSTED}\n{_figure(coverage, '')}" if coverage else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}: <span class="{"failed" if failed else "passed"}">{verdict}</span></h1>
<table>
<thead><tr><th>Gate</th><th class="figure">Figure</th><th class="figure">Threshold</th><th>Verdict</th></tr></thead>
<tbody>
{rows}
</tbody></table>
{unused}
{seen}
{pictures}
{trusted}
<h2>The mesh</h2>
{mesh}
</body></html>
"""


def figure_text(value: float | None, unit: str) -> str:
    """A figure with its unit, as short as it is honest."""
    if value is None:
        return "unknown"
    digits = 0 if value == int(value) and abs(value) < 1e6 and unit in ("", "px") else 3 if abs(value) < 0.1 else 2
    return f"{value:.{digits}f} {unit}".strip()


def _row(gate: Gate) -> str:
    name, verdict = {True: ("passed", "pass"), False: ("failed", "FAIL"), None: ("none", "not measured")}[gate.passed]
    sign = "≤" if gate.comparison == "<=" else "≥"
    return (
        f"<tr><td>{escape(gate.title)}<div class='how'>{escape(gate.how)}</div></td>"
        f"<td class='figure'>{escape(figure_text(gate.value, gate.unit))}</td>"
        f"<td class='figure'>{sign} {escape(figure_text(gate.threshold, gate.unit))}</td>"
        f"<td class='{name}'>{verdict}</td></tr>"
    )


def _figure(path: str, caption: str) -> str:
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{escape(path)}" alt="{escape(caption or path)}" loading="lazy">{text}</figure>'
