"""A bundle published by a Prefect flow: what `splatyard publish` does, nothing else."""

from __future__ import annotations

import os

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from pipeline.errors import BundleError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.store import refuse_secrets


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(bundle: str, to: str, public: bool, allow_failed: bool) -> str:
    """Put a bundle into a registry or onto the hub; gives the reference that it has there."""
    from pipeline.publish.publishing import publish as put
    from pipeline.scenes.resolver import open_registry

    opened = Bundle.open(bundle)
    registry = open_registry(to, create=True)
    done = put(opened, registry, allow_failed=allow_failed, public=public)
    get_run_logger().info("%s: %d of %d files sent", done.reference, done.sent, done.files)
    failed = ", ".join(opened.manifest.failed_gates)
    rows = {
        "reference": f"`{done.reference}`",
        "quality": f"**FAILED**: {failed}" if failed else "passed",
        "sent": f"{done.sent} of {done.files} files, {done.sent_bytes / 1e6:.1f} MB",
        "sha256": done.sha256,
    }
    lines = ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]
    create_markdown_artifact("\n".join(lines), key="published", description="what was published, and where")
    return done.reference


@flow(name="publish-scene", flow_run_name="publish-{bundle}", persist_result=False)
def publish_scene(bundle: str, to: str = "", public: bool = False, allow_failed: bool = False) -> str:
    """Publish a bundle: checked, sent, and visible to others once it is whole.

    Credentials are those of the machine where it runs: `hf auth login` or HF_TOKEN for the hub, AWS's variables for S3.

    Args:
        bundle: A folder, name@version, or name for its newest.
        to: Where to: hf://owner/repository, s3://bucket/path, or registry:FOLDER; what SPLATYARD_REGISTRY names there
            if empty.
        public: Everybody can read it: the licence must allow that. A repository that is made is private without it.
        allow_failed: Publish it even if gates fail.

    Returns:
        The reference that it has now.
    """
    from pipeline.scenes.resolver import ADDRESS_VARIABLE

    refuse_secrets(to)
    if not to and not os.environ.get(ADDRESS_VARIABLE):
        raise BundleError(
            "the flow is told where to publish",
            found=f"neither the parameter `to`, nor {ADDRESS_VARIABLE} where it runs",
            remedy="such as --param to=hf://owner/scenes",
        )
    return publish(bundle, to, public, allow_failed)
