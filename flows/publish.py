"""Prefect flows that publish bundles and make the gallery: what `splatyard registry publish` and `gallery` do."""

from __future__ import annotations

import shlex
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from flows.markdown import code, markdown, markdown_table
from flows.verdicts import GATES_TAG, tag_run
from pipeline.errors import BundleError
from pipeline.scenes.bundle import Bundle
from pipeline.scenes.store import refuse_secrets


@task(cache_policy=NO_CACHE, persist_result=False)
def publish(bundle: str, to: str, public: bool, allow_failed: bool) -> str:
    """Put a bundle into a registry or onto the hub; returns its reference there."""
    from pipeline.publish import publishing
    from pipeline.scenes.resolver import open_registry

    opened = Bundle.open(bundle)
    done = publishing.publish(opened, open_registry(to, create=True), allow_failed=allow_failed, public=public)
    get_run_logger().info("%s: %d of %d files sent", done.reference, done.sent, done.files)
    failed = ", ".join(opened.manifest.failed_gates)
    rows = (
        ("reference", code(done.reference)),
        ("quality", markdown("**FAILED**: {}", failed) if failed else "passed"),
        ("sent", f"{done.sent} of {done.files} files, {done.sent_bytes / 1e6:.1f} MB"),
        ("sha256", done.sha256),
    )
    create_markdown_artifact(
        markdown_table(["published", "value"], rows), key="published", description="what was published, where"
    )
    if failed:
        tag_run(GATES_TAG)
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
        allow_failed: Publish it even if gates fail; the run is green, and has the tag `gates-failed`.

    Returns:
        The reference that it has now.
    """
    from pipeline.config import REGISTRY, SETTINGS, chosen

    refuse_secrets(to)
    if not to and not chosen(REGISTRY):
        raise BundleError(
            "the flow needs a registry to publish to",
            found=f"neither the parameter `to`, nor {SETTINGS[REGISTRY].variable} where it runs",
            remedy="such as --param to=hf://owner/scenes",
        )
    return publish(bundle, to, public, allow_failed)


@task(cache_policy=NO_CACHE, persist_result=False)
def build(registry: str, out: Path, results: Path | None) -> dict[str, str]:
    """Bring the site up to date; returns what had to be left out, and why."""
    from pipeline.gallery.scenes import scenes
    from pipeline.gallery.site import build_site
    from pipeline.scenes.resolver import default_address
    from train.suites.board import boards_of

    boards, unfit = boards_of(results) if results else ([], {})
    built = build_site(scenes(registry or default_address()), out, boards)
    get_run_logger().info("%d pages made, %d were up to date", len(built.made), len(built.kept))
    return {**built.left_out, **unfit}


@task(cache_policy=NO_CACHE, persist_result=False)
def push(out: Path, to: str, public: bool) -> str:
    """Show the site in a Space; returns its address."""
    from pipeline.gallery import space

    return space.push(out, to, public=public)


@flow(name="make-gallery", flow_run_name="gallery-{out}", persist_result=False)
def make_gallery(
    registry: str = "",
    out: Path = Path("site"),
    push_to: str = "",
    public: bool = False,
    results: Path | None = None,
) -> str:
    """Bring the gallery of a registry up to date: only pages of new and changed versions are made.

    Args:
        registry: A registry's folder or address, or a folder of bundles; SPLATYARD_REGISTRY or ./yard if empty.
        out: Folder of the site.
        push_to: A static Space on the hub that shows it then, hf://owner/name; none if empty.
        public: Everybody can see a Space that is made: the scenes' licences must allow that.
        results: A folder of suites and of results in them, at any depth, for a leaderboard; none if empty.

    Returns:
        Address of the gallery.

    Raises:
        BundleError: At the end, when a bundle was damaged, or results don't fit, and had to be left out.
    """
    refuse_secrets(registry)
    left_out = build(registry, out, results)
    address = push(out, push_to, public) if push_to else (out / "index.html").resolve().as_uri()
    if push_to:
        create_link_artifact(address, "gallery", key="gallery")
    else:  # a browser opens no file from a page of a server
        words = ["splatyard", "gallery", *(["--registry", registry] if registry else []), "--out", str(out), "--serve"]
        create_markdown_artifact(
            markdown("{} shows it", code(shlex.join(words))), key="gallery", description=f"gallery in {out}"
        )
    if left_out:
        raise BundleError(
            "all versions and results can be shown",
            found="; ".join(f"{name}: {why.splitlines()[0]}" for name, why in left_out.items()),
            remedy="`splatyard registry verify` says more; the others are shown",
        )
    return address
