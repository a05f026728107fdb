"""Measure the hot kernels on one thread: arithmetic, bytes, and shares of what this machine reaches at best.

    python benchmarks/kernels.py BUNDLE                 measure and print
    python benchmarks/kernels.py BUNDLE --cpu avx2      the same without AVX-512
    python benchmarks/kernels.py BUNDLE --write         write the page in docs/benchmarks

What counts as a unit of work, an operation and a byte: see `kernel_work`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numba

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.cpu import add_cpu_option, use_cpu  # noqa: E402
from benchmarks.kernel_work import (  # noqa: E402
    Capture,
    Work,
    coverage_work,
    mesh_work,
    rasteriser_work,
    simulator_work,
    stereo_work,
)
from benchmarks.page import update_page  # noqa: E402
from benchmarks.peaks import COPIED, arithmetic, copying  # noqa: E402
from pipeline import Bundle  # noqa: E402

BINDS = 1 / 3
"""Share of a peak from which on we take it to bind. An addition or a multiplication alone is half of what an
instruction can do, comparisons and selections count nothing, and few kernels read as straight on as a copy."""


def line(work: Work, vectors: float, scalars: float, speeds: dict[int, float]) -> str:
    """A row of the table, by the peaks of arithmetic [1/s] and the speed of copying by size [bytes/s]."""
    seconds = sum(call.seconds() for call in work.calls)
    size = min(sum(call.bytes() for call in work.calls), work.bytes)
    speed = next((speeds[limit] for limit in COPIED if size <= limit), speeds[COPIED[-1]])
    by_arithmetic, by_bytes = work.operations / seconds / vectors, work.bytes / seconds / speed
    bound = work.otherwise
    if not work.vectors:
        bound = f"no vectors ({100 * work.operations / seconds / scalars:.0f} % of the peak without); {bound}"
    elif by_bytes >= BINDS:
        bound = "bytes"
    elif by_arithmetic >= BINDS:
        bound = "arithmetic"
    cells = [
        work.kernel,
        f"{1e3 * seconds:.3g}",
        work.unit,
        f"{work.units:.3g}",
        f"{work.operations / work.units:.0f}",
        f"{work.bytes / work.units:.0f}",
        f"{work.operations / seconds / 1e9:.1f}",
        f"{work.bytes / seconds / 1e9:.1f}",
        f"{100 * by_arithmetic:.0f} %",
        f"{100 * by_bytes:.0f} %",
        bound,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write the page if requested."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", metavar="BUNDLE")
    parser.add_argument("--write", action="store_true", help="write the page in docs/benchmarks")
    add_cpu_option(parser)
    options = parser.parse_args()
    name = "kernels" + use_cpu(options.cpu)
    numba.set_num_threads(1)
    (vectors, scalars), speeds = arithmetic(), copying()
    with tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.open(options.bundle)
        capture = Capture(bundle, Path(folder))
        parts = (stereo_work, rasteriser_work, mesh_work, coverage_work)
        works = [work for part in parts for work in part(capture)] + list(simulator_work(options.bundle))
    rows = [line(work, vectors, scalars, speeds) for work in works]
    sizes = (f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB" for size in COPIED)
    copied = ", ".join(f"{speed / 1e9:.0f} of {size}" for speed, size in zip(speeds.values(), sizes, strict=True))
    text = (
        f"One thread, least of many repeats, on a capture made of {bundle.manifest.name}@{bundle.manifest.version}. "
        f"At best, measured in the same run: float32 arithmetic {vectors / 1e9:.0f} GFLOP/s with vectors and "
        f"{scalars / 1e9:.0f} without; copying, GB/s read and written, {copied}. Shares are those of arithmetic with "
        "vectors, and of copying as much as a kernel touches; from a third on we take them to bind: an addition or a "
        "multiplication alone is half of what an instruction can do, and comparisons and selections count nothing. "
        "Units, operations and bytes are counted as `benchmarks/kernel_work.py` says."
    )
    head = "kernel, CPU-ms, unit, units, operations each, bytes each, GFLOP/s, GB/s, of the peak, of copying, bound by"
    page = [
        f"## {name}",
        "",
        f"{text} `python benchmarks/kernels.py BUNDLE --cpu {options.cpu} --write`",
        "",
        f"| {head.replace(', ', ' | ')} |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *rows,
    ]
    print("\n".join(page))
    if options.write:
        update_page({name: "\n".join(page) + "\n"})


if __name__ == "__main__":
    main()
