"""Weights of the networks for poses and depth: where they come from, and whether they fit. Imported by workers only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.learned.errors import NoWeights, WrongWeights

if TYPE_CHECKING:
    import torch

MISSING = 0.01
"""Largest share of a network's parameters that its weights may leave as they were made: by chance."""


def load_network(network: type[Any], weights: str, by_chance: bool = False) -> torch.nn.Module:
    """The network with its weights, on the CPU and ready to infer.

    Args:
        network: Its class, with `from_pretrained`.
        weights: Of a repository on Hugging Face (from the user's cache or the network), of a folder with
            `config.json` and `model.safetensors`, or of one file `.pt` or `.safetensors`.
        by_chance: Take it as it is made, without weights, to see whether it runs.

    Raises:
        NoWeights: When they are not there and can't be fetched.
        WrongWeights: When they are damaged or another network's.
    """
    import pickle

    from safetensors import SafetensorError

    if by_chance:
        return network().eval()
    checked = _that_notices(network)
    try:
        if Path(weights).is_file():
            model = checked()
            model.load_state_dict(_state(Path(weights)))
        else:
            model = checked.from_pretrained(weights)
    except (RuntimeError, KeyError, TypeError, SafetensorError, pickle.UnpicklingError, EOFError) as error:
        why = str(error).strip().splitlines() or ["the file is damaged"]
        raise WrongWeights(f"{weights}: {why[0]}") from error
    except OSError as error:
        raise _absent(weights, error) from error
    except ValueError as error:  # no name of a repository
        raise NoWeights(f"{weights!r} is neither a file, a folder nor a repository on Hugging Face") from error
    return model.eval()


def _that_notices(network: type[Any]) -> type[Any]:
    """The network's class, which takes parameters that are not there in silence, made to notice."""

    class Checked(network):
        def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True, assign: bool = False) -> Any:
            result = super().load_state_dict(state_dict, strict=False, assign=assign)
            own, missing = self.state_dict(), set(result.missing_keys)
            there = {values.data_ptr() for name, values in own.items() if name not in missing}
            absent = [name for name in result.missing_keys if own[name].data_ptr() not in there]  # others are shared
            if len(absent) > MISSING * len(own):
                raise RuntimeError(f"{len(absent)} parameters are not there, such as {absent[0]}")
            return result

    return Checked


def _state(file: Path) -> dict[str, Any]:
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    return torch.load(file, map_location="cpu", weights_only=True)


def _absent(weights: str, error: OSError) -> NoWeights:
    if type(error).__name__ == "GatedRepoError":
        ask = f"ask for access at https://huggingface.co/{weights}, then log in: hf auth login"
        return NoWeights(f"{weights} is given to those who asked for it", ask)
    if Path(weights).is_dir():
        return NoWeights(f"{weights} has no config.json and model.safetensors: {error}", "give another folder")
    why = str(error).strip().splitlines() or [type(error).__name__]
    where = "on a machine with internet, then copy the cache (HF_HOME, ~/.cache/huggingface by default)"
    return NoWeights(f"{weights} is not in the cache and can't be fetched: {why[0]}", f"hf download {weights}, {where}")
