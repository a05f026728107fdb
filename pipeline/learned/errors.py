"""What can go wrong with a network, said the same from this process and from another interpreter's.

Uncaught they leave `pipeline.learned.session.open_session` as a `MachineError`.
"""

from __future__ import annotations


class LearnedError(Exception):
    """Base of them.

    Args:
        found: What was found.
        remedy: What to do, ideally a command; the kind's own words by default.
    """

    rule = "a network must run"
    remedy = "see `splatyard doctor`"

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(found, remedy or self.remedy)
        self.found = found
        self.remedy = remedy or self.remedy

    def __str__(self) -> str:
        """What was found."""
        return self.found


class OutOfMemory(LearnedError):  # noqa: N818 (named for what happened)
    """Raised when the GPU's memory does not hold what was asked for; less may fit."""

    rule = "what is computed at once must fit into the GPU's memory"
    remedy = "end other programs on the GPU (nvidia-smi lists them), or take the backend for CPUs"


class NoWeights(LearnedError):  # noqa: N818 (named for what happened)
    """Raised when a network's weights are neither on this machine nor to be had from the network."""

    rule = "a network needs its weights"
    remedy = "connect to the internet for the first run; `splatyard doctor` names the command that fetches them"


class WrongWeights(LearnedError):  # noqa: N818 (named for what happened)
    """Raised when weights are damaged or another network's."""

    rule = "weights must be those of the network"
    remedy = "remove the file and let it be fetched again"


class NoDevice(LearnedError):  # noqa: N818 (named for what happened)
    """Raised when there is no GPU that the installed torch can use."""

    rule = "a network needs a CUDA GPU that the installed torch was built for"


class BadOutput(LearnedError):  # noqa: N818 (named for what happened)
    """Raised when a network's answer is empty, not finite or of the wrong shape."""

    rule = "a network's answer must be finite and of the right shape"
    remedy = "try the backend for CPUs; if it happens with other captures too, install the tested revision again"


KINDS: dict[str, type[LearnedError]] = {
    kind.__name__: kind for kind in (OutOfMemory, NoWeights, WrongWeights, NoDevice, BadOutput)
}
"""By the name under which they travel."""
