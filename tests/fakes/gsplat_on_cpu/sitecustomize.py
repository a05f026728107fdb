"""Run at the start of every Python that finds this folder on its path: gsplat works there without a GPU."""

from kernels import install  # pyright: ignore[reportMissingImports]

install()
