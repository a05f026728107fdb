"""Errors of GPU backends in any interpreter; `session.open_session` turns uncaught ones into a `MachineError`."""

from __future__ import annotations


class GpuBackendError(Exception):
    """Base class; `found` is the observation, `remedy` what to do about it if not what the class says."""

    rule = "a network must run"
    remedy = "see `splatyard doctor`"

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found, remedy or self.remedy)
        self.found = found
        self.remedy = remedy or self.remedy

    def __str__(self) -> str:
        """The observation."""
        return self.found


class GpuMemoryError(GpuBackendError):
    """Raised when a request does not fit into the GPU's memory; a smaller one may fit."""

    rule = "what is computed at once must fit into the GPU's memory"
    remedy = "end other programs on the GPU (nvidia-smi lists them), or use the CPU backend"


class MissingWeightsError(GpuBackendError):
    """Raised when a network's weights are neither on this machine nor available from the internet."""

    rule = "a network needs its weights"
    remedy = "connect to the internet for the first run; `splatyard doctor` names the command that downloads them"


class WrongWeightsError(GpuBackendError):
    """Raised when weights are damaged or belong to another network."""

    rule = "weights must be those of the network"
    remedy = "remove the file and let it be downloaded again"


class NoDeviceError(GpuBackendError):
    """Raised when there is no GPU that the installed torch can use."""

    rule = "a network needs a CUDA GPU that the installed torch was built for"


class BadOutputError(GpuBackendError):
    """Raised when a network's output is empty, not finite or of the wrong shape."""

    rule = "a network's output must be finite and of the right shape"
    remedy = "try the CPU backend; if it happens with other captures too, install the tested revision again"


KINDS = {kind.__name__: kind for kind in GpuBackendError.__subclasses__()}
"""Error classes by the name that is sent between processes."""
