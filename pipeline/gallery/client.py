"""viser, without what it says unasked, and its client: one page, with what that lacks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

ADDED = """
// The quad of all splats has corners of two numbers, of which three.js makes a bounding sphere of NaN and complains.
// With a third number that is a sphere at the origin, out of which the splats are in sight, too.
function mend(node) {
  const corners = node.geometry?.attributes?.sortedIndex && node.geometry.attributes.position;
  if (corners?.itemSize !== 2) return;
  corners.array = Float32Array.from({ length: 3 * corners.count }, (_, at) =>
    at % 3 < 2 ? corners.array[2 * Math.floor(at / 3) + (at % 3)] : 0);
  corners.itemSize = 3;
  node.frustumCulled = false;
}
let published;
Object.defineProperty(window, "__viserMutable", {
  configurable: true,
  get: () => published,
  set: (value) => {
    published = value;
    if (value?.scene) value.scene.onBeforeRender = () => value.scene.traverse(mend);
  },
});
// Only phones have a panel at the bottom: it would cover half of the page, so it begins folded.
new MutationObserver((_, seen) => {
  const handle = document.querySelector("[style*='position: fixed'] [style*='cursor: pointer'][style*='3.5em']");
  if (!handle) return;
  seen.disconnect();
  handle.click();
}).observe(document, { childList: true, subtree: true });
"""
"""Runs before viser's own script."""


def client_page() -> str:
    """The static client of viser, HTML."""
    import viser

    page = (Path(viser.__file__).parent / "client" / "build" / "index.html").read_text("utf-8")
    return page.replace("<head>", f"<head><script>{ADDED}</script>", 1)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep from the output how viser greets and says goodbye."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
