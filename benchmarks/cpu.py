"""Benchmarks as on a machine without AVX-512, on one that has it."""

from __future__ import annotations

import argparse
import os
import resource
import sys
from typing import Literal

CpuKind = Literal["native", "avx2"]


def add_cpu_option(parser: argparse.ArgumentParser) -> None:
    """`--cpu`: which vectors the measured processes may use."""
    parser.add_argument("--cpu", choices=["native", "avx2"], default="native", help="this CPU's vectors, or AVX2 only")


def use_cpu(cpu: CpuKind) -> str:
    """Start this command again with these vectors if it has others.

    Returns:
        What to append to the names of sections: nothing, or that they were measured with AVX2.
    """
    if cpu == "avx2" and "NUMBA_CPU_FEATURES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], environment(cpu))
    return ", AVX2" if cpu == "avx2" else ""


def children_cpu() -> float:
    """CPU time that ended child processes have taken [s]."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def environment(cpu: CpuKind) -> dict[str, str]:
    """Environment of a process whose kernels and libraries use at most these vectors.

    For AVX2 numba compiles for Zen 3, the newest of its family without AVX-512, with the features of LLVM that this
    machine has; OpenCV, OpenBLAS, NumPy and PyTorch choose their kernels by variables of their own.
    """
    if cpu == "native":
        return dict(os.environ)
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    flags = [f"{'+' if there and not _is_wide(name) else '-'}{name}" for name, there in sorted(features.items())]
    return os.environ | {
        "NUMBA_CPU_NAME": "znver3",
        "NUMBA_CPU_FEATURES": ",".join(flags),
        "OPENCV_CPU_DISABLE": "AVX512-SKX",
        "OPENBLAS_CORETYPE": "Zen",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
    }


def _is_wide(feature: str) -> bool:
    """Whether a feature of LLVM needs registers of 512 bits, or encodings that came with them."""
    return feature.startswith(("avx512", "avx10", "evex512"))
