"""How runs end in Prefect: what isn't right is red, under a name and a tag of its own, and reaches the webhook.

A state's type decides its colour on Prefect's pages, and its name that of the event that automations wait for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from pipeline.running.records import Scene, counts

logger = logging.getLogger(__name__)

CACHED = "Cached"
"""State of a stage or a scene that was there: nothing was done."""
GATES_FAILED, GATES_TAG = "Gates failed", "gates-failed"
"""State, of the type Failed, and tag of a run whose bundles are there, of which gates fail."""


def of_scenes(scenes: Sequence[Scene], message: str = "") -> State[None]:
    """The state of a run that built scenes: failed where one has no bundle, or a bundle that failed gates.

    Whether a scene was built now or before makes no difference, so that the same run ends the same. The message is by
    default how many are in which state.
    """
    message = message or counts(scenes)
    if failing := [f"{scene.name} ({', '.join(scene.failed_gates)})" for scene in scenes if scene.failed_gates]:
        tag_run(GATES_TAG)
        message += f"; failed gates: {', '.join(failing)}"
    if any(scene.state in ("failed", "stopped") for scene in scenes):
        return Failed(message=message)
    return Failed(name=GATES_FAILED, message=message) if failing else Completed(message=message)


def of_scene(scene: Scene) -> State[Scene]:
    """The state of the task that built a scene, as far as it was asked to, or left it to another process."""
    if scene.state == "busy":
        return Completed(name=CACHED, message="another process builds it", data=scene)
    if scene.state == "partial":
        return Completed(message=f"stopped after {scene.stage}, as asked for", data=scene)
    where = f"bundle: {scene.bundle}" if scene.state == "built" else f"was there: {scene.bundle}"
    if scene.failed_gates:
        where += f"; failed gates: {', '.join(scene.failed_gates)}"
        return Failed(name=GATES_FAILED, message=where, data=scene)
    return Completed(name=None if scene.state == "built" else CACHED, message=where, data=scene)


def tag_run(tag: str) -> None:
    """Give the run at hand a tag; without a server only the tag is lost."""
    if flow_run.id is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(UUID(flow_run.id), tags={*flow_run.tags, tag})
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        logger.warning("the run has no tag %s: %s", tag, error)
