"""A checkpoint of LeRobot's at work. Needs lerobot 0.4 or newer and torch, and no more of ours than numpy.

Source: lerobot's own evaluation (lerobot/scripts/lerobot_eval.py): preprocessor, `select_action`, postprocessor.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.gpu_backends.errors import WrongWeightsError

WEIGHTS = ("_modules", "_parameters", "_buffers", "config")
"""What all robots share of a policy; the rest, such as queues of actions, each has for itself."""


class Worker:
    """The loaded policy, once for each robot."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Load what is in the settings' `folder` to their `device`, for `robots` of them.

        Raises:
            WrongWeightsError: When it is no checkpoint that this lerobot reads.
        """
        os.environ["HF_HUB_OFFLINE"] = "1"  # a checkpoint is what it is: nothing that it names is fetched
        import torch
        from lerobot.configs.policies import PreTrainedConfig  # pyright: ignore[reportMissingImports]
        from lerobot.policies.factory import (  # pyright: ignore[reportMissingImports]
            get_policy_class,
            make_pre_post_processors,
        )

        folder, device = settings["folder"], settings["device"]
        self._torch = torch
        torch.manual_seed(settings["seed"])
        try:
            config = PreTrainedConfig.from_pretrained(folder, local_files_only=True)
            config.device = device
            if hasattr(config, "pretrained_backbone_weights"):
                config.pretrained_backbone_weights = None  # the checkpoint has the backbone's weights
            kind = get_policy_class(config.type)
            policy = kind.from_pretrained(folder, config=config, local_files_only=True, strict=True)
            overrides = {"device_processor": {"device": device}}
            self._before, self._after = make_pre_post_processors(
                config, folder, preprocessor_overrides=overrides, postprocessor_overrides={}
            )
        except ImportError:
            raise
        except Exception as error:  # whatever a file from elsewhere makes a library raise
            raise WrongWeightsError(f"{folder}: {type(error).__name__}: {error}"[:500]) from error
        self._policies = [_own(policy) for _ in range(settings["robots"])]

    def ask(self, request: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Actions (N, A) for arrays by LeRobot's names, a `task`, and where episodes have `begun` (N,)."""
        actions = []
        arrays = {name: values for name, values in request.items() if name.startswith("observation.")}
        for row, (policy, begun) in enumerate(zip(self._policies, request["begun"], strict=True)):
            if begun:
                policy.reset()
            seen = {name: self._torch.from_numpy(values[row].copy()) for name, values in arrays.items()}
            seen = {name: _image(values) if values.ndim == 3 else values for name, values in seen.items()}
            with self._torch.inference_mode():
                action = self._after(policy.select_action(self._before({**seen, "task": request["task"]})))
            actions.append(action.reshape(-1).float().cpu().numpy())
        return {"actions": np.array(actions, np.float32)}


def _own(policy: Any) -> Any:
    """The same policy with a memory of its own."""
    other = copy.copy(policy)
    vars(other).update({name: copy.deepcopy(of) for name, of in vars(policy).items() if name not in WEIGHTS})
    other.reset()
    return other


def _image(values: Any) -> Any:
    """Colours (H, W, 3) uint8 as LeRobot's datasets give them: (3, H, W), 0..1."""
    return values.permute(2, 0, 1).float() / 255
