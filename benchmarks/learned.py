"""Stitch the outputs of a network such as VGGT for a long capture: trajectory error and memory.

python benchmarks/learned.py [--images 600] [--write]

No network runs. A simulated one answers from the truth of two rounds through a furnished hall (tests/fakes), chunk by
chunk, with the errors that such networks have: each chunk 5 % larger than the one before, 10 % of the pixels anywhere,
1 % of noise in every pixel, 0.3 % in every image, cameras off by 5 mm and 0.1 degrees. Everything behind the
network's interface is the product's: chunks, similarities, loops, the graph. Memory is what Python allocates.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import Row, section, update_page  # noqa: E402
from pipeline.geometry import fit_similarity  # noqa: E402
from pipeline.poses.network import Chunk, ChunkRunner, Chunks, Links  # noqa: E402
from pipeline.poses.sparse_map import PoseSigma  # noqa: E402
from pipeline.poses.stitching import stitch  # noqa: E402
from tests.fakes.long_walk import long_walk, path_length  # noqa: E402
from tests.fakes.simulated_network import Simulated, Truth  # noqa: E402

SIZE = 520, 392
"""Size of a network's depth map."""
CAPACITY = 40
"""Images per chunk: 600 images make 20 chunks."""
MAX_ERROR, MAX_MEMORY = 0.03, 1.1


class Enlarged:
    """Depth maps as large as a network's, each created on demand."""

    def __init__(self, maps: Sequence[np.ndarray]) -> None:
        """Keep the small maps."""
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> np.ndarray:
        return cv2.resize(self._maps[index], SIZE, interpolation=cv2.INTER_NEAREST)


def run(truth: Truth, links: Links, count: int) -> tuple[Chunks, int, int]:
    """Chunks of the first images, the runs that made them, and the peak memory allocated [bytes]."""
    network = Simulated(truth, capacity=CAPACITY)
    runner = ChunkRunner(network, {i: Path(str(i)) for i in range(count)}, links, lambda *_: None)
    tracemalloc.start()
    chunks = runner.run(range(count), (640, 480), in_time=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return chunks, len(network.asked), peak


def track_error(chunks: Sequence[Chunk], truth: Truth) -> tuple[float, int]:
    """Root-mean-square error of the positions [m] after the best similarity, and their number."""
    poses = stitch(chunks, {}, PoseSigma(1.0, 0.03), 0).poses
    found = np.array([pose.translation for pose in poses.values()])
    true = np.array([truth.poses[i].translation for i in poses])
    error = fit_similarity(found, true).apply(found) - true
    return float(np.sqrt((error**2).sum(1).mean())), len(poses)


def main() -> None:
    """Measure, print, and with --write update docs/benchmarks/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--write", action="store_true", help="update docs/benchmarks/")
    options = parser.parse_args()
    truth, links = long_walk(options.images)
    large = replace(truth, camera=truth.camera.resized(*SIZE), depths=Enlarged(truth.depths))
    first = {pair: number for pair, number in links.items() if pair[1] < CAPACITY}
    run(large, first, CAPACITY)  # warm-up: compilation and imports
    one = run(large, first, CAPACITY)[2]
    chunks, runs, peak = run(large, links, options.images)
    begin = time.process_time()
    error, placed = track_error(chunks.chunks, truth)
    seconds = time.process_time() - begin
    chain = [chunk for chunk in chunks.chunks if chunk.run < runs - chunks.loops]
    rows = [
        Row("images", options.images, ""),
        Row("registered images", placed, ""),
        Row("chunks along the path", runs - chunks.loops, ""),
        Row("chunks that close loops", chunks.loops, ""),
        Row("path length", path_length([*truth.poses]), "m"),
        Row("trajectory error", error, "m", "<=", MAX_ERROR),
        Row("trajectory error without loop closure", track_error(chain, truth)[0], "m"),
        Row("peak memory relative to one chunk", peak / one, "", "<=", MAX_MEMORY),
        Row("stitching", seconds, "CPU-s"),
    ]
    for row in rows:
        print(row.line())
    if options.write:
        about = (
            "Simulated network outputs for two laps through a hall: each chunk is 5 % larger than the previous one, "
            "10 % of the pixels are outliers, cameras are off by 5 mm and 0.1 degrees. Stitched by similarities "
            "between shared images, with loop closure, without bundle adjustment."
        )
        update_page({"learned poses": section("learned poses", "python benchmarks/learned.py --write", about, rows)})


if __name__ == "__main__":
    main()
