"""NKSR on oriented points. Needs torch and nksr, and no more of ours than numpy.

Source: J. Huang et al., Neural Kernel Surface Reconstruction, CVPR 2023, and the package's published interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.gpu_backends.device import gpu_errors, usable_device
from pipeline.gpu_backends.errors import BadOutputError, MissingWeightsError, WrongWeightsError

CONFIG = "ks"
"""The network that was trained on everything, indoors and outdoors."""
REFINEMENTS = 1
"""Times that the cells round the surface are halved before it is drawn; the published examples' number."""
POINTS_AT_ONCE = 2**22
EMPTY = "a surface without triangles"
NO_CHUNKS = "chunk expects `chunks` to be greater than 0"
"""What torch says where nksr cuts the vertices of an empty surface into batches (`BaseField.evaluate_f_bar`)."""


class Worker:
    """The loaded network."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        """Load the network to the `device` of the settings (cuda); `random_weights` leaves it untrained.

        Raises:
            NoDeviceError: When torch can't compute there.
            MissingWeightsError: When they are not in torch's cache and can't be fetched.
            WrongWeightsError: When they are damaged or another network's.
        """
        import torch
        from nksr import Reconstructor  # pyright: ignore[reportAttributeAccessIssue] (it finds our nksr.py)
        from nksr.configs import get_hparams  # pyright: ignore[reportMissingImports]

        self._device = usable_device(str(settings.get("device", "cuda")))
        configuration = get_hparams(CONFIG)
        if settings.get("random_weights"):  # made as its constructor makes it, but for the weights
            from nksr import NKSRNetwork  # pyright: ignore[reportAttributeAccessIssue]

            self._reconstructor = made = Reconstructor.__new__(Reconstructor)
            made.device = made.chunk_tmp_device = self._device
            made.hparams = configuration
            made.network = NKSRNetwork(configuration).to(self._device).eval().requires_grad_(False)
            return
        file = _weights(str(configuration.url))
        configuration.url = str(file)
        try:
            with gpu_errors("the network"):
                self._reconstructor = Reconstructor(self._device, config=configuration)
        except (RuntimeError, KeyError) as error:
            if isinstance(error, RuntimeError) and "state_dict" not in str(error):
                raise
            raise _wrong(file, str(error)) from error
        self._reconstructor.chunk_tmp_device = torch.device("cpu")

    def ask(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        """Answer one of two requests.

        Empty: `free` memory [bytes], None where it is no limit. `points` and `normals` (N, 3) in the network's scale,
        `chunk`, the edge of the cubes that are reconstructed one by one (0: all at once), and `overlap`, the share of
        it that neighbours have in common: `vertices` (V, 3) in the points' scale and frame, `triangles` (F, 3).

        Raises:
            GpuMemoryError: When smaller chunks may fit.
            BadOutputError: When no finite surface comes out.
        """
        import torch

        if not request:
            if self._device.type != "cuda":
                return {"free": None}
            torch.cuda.empty_cache()
            return {"free": int(torch.cuda.mem_get_info(self._device)[0])}
        return self._reconstruct(request["points"], request["normals"], request["chunk"], request["overlap"])

    def _reconstruct(
        self, points: np.ndarray, normals: np.ndarray, chunk: float, overlap: float
    ) -> dict[str, np.ndarray]:
        import torch

        what = f"{len(points)} points" + (f" in chunks of {chunk:g}" if chunk else "")
        with gpu_errors(what):
            field = self._reconstructor.reconstruct(
                torch.from_numpy(points).float().to(self._device),
                normal=torch.from_numpy(normals).float().to(self._device),
                detail_level=None,  # the points come scaled to it: chunks would ignore it
                chunk_size=chunk or -1,
                overlap_ratio=overlap,
            )
            if field is None:
                raise BadOutputError("no field for these points")
            try:
                mesh = field.extract_dual_mesh(mise_iter=REFINEMENTS, max_points=POINTS_AT_ONCE)
            except RuntimeError as error:
                if NO_CHUNKS in str(error):
                    raise BadOutputError(EMPTY) from error
                raise
            vertices, triangles = mesh.v.cpu().numpy(), mesh.f.cpu().numpy()
        return checked(vertices, triangles)


def checked(vertices: np.ndarray, triangles: np.ndarray) -> dict[str, np.ndarray]:
    """The answer, after a look at it.

    Raises:
        BadOutputError: When there is no triangle, a corner that is not finite, or an index to nowhere.
    """
    if not len(triangles):
        raise BadOutputError(EMPTY)
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise BadOutputError("triangles with corners that are not there")
    lost = ~np.isfinite(vertices[triangles]).all((1, 2))
    if lost.any():
        raise BadOutputError(f"NaN in {lost.sum()} of {len(triangles)} triangles")
    return {"vertices": vertices.astype(np.float32), "triangles": triangles.astype(np.int32)}


def _weights(url: str) -> Path:
    """The file with the weights, in torch's cache; fetched when it is not there."""
    import pickle

    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), progress=False)
        except OSError as error:
            raise MissingWeightsError(
                f"{file} is not there and can't be fetched: {error}", fetch_command(url, file)
            ) from error
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # nksr would unpickle whatever it is
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise _wrong(file, str(error)) from error
    return file


def fetch_command(url: str, file: Path) -> str:
    """What brings the weights to a machine without internet."""
    return f"curl -L --create-dirs -o {file} {url} (on a machine with internet, then copy the file)"


def _wrong(file: Path, why: str) -> WrongWeightsError:
    return WrongWeightsError(f"{file}: {(why.strip() or 'damaged').splitlines()[0]}", f"rm {file}, and run again")
