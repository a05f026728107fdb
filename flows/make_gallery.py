"""The gallery made, and pushed, by a Prefect flow: what `splatyard gallery` does, nothing else."""

from __future__ import annotations

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact
from prefect.cache_policies import NO_CACHE

from pipeline.errors import BundleError
from pipeline.scenes.store import refuse_secrets


@task(cache_policy=NO_CACHE, persist_result=False)
def build(registry: str, out: Path) -> dict[str, str]:
    """Bring the site up to date; gives what had to be left out, and why."""
    from pipeline.gallery.scenes import scenes
    from pipeline.gallery.site import build_site
    from pipeline.scenes.resolver import default_address

    built = build_site(scenes(registry or default_address()), out)
    get_run_logger().info("%d pages made, %d were up to date", len(built.made), len(built.kept))
    return dict(built.left_out)


@task(cache_policy=NO_CACHE, persist_result=False)
def push(out: Path, to: str, public: bool) -> str:
    """Show the site in a Space; gives its address."""
    from pipeline.gallery.space import push as push_site

    return push_site(out, to, public=public)


@flow(name="make-gallery", flow_run_name="gallery-{out}", persist_result=False)
def make_gallery(registry: str = "", out: Path = Path("site"), push_to: str = "", public: bool = False) -> str:
    """Bring the gallery of a registry up to date: only pages of new and changed versions are made.

    Args:
        registry: A registry's folder or address, or a folder of bundles; SPLATYARD_REGISTRY or ./yard if empty.
        out: Folder of the site.
        push_to: A static Space on the hub that shows it then, hf://owner/name; none if empty.
        public: Everybody can see a Space that is made: the scenes' licences must allow that.

    Returns:
        Where it is to be seen.

    Raises:
        BundleError: At the end, when a bundle was damaged and had to be left out.
    """
    refuse_secrets(registry)
    left_out = build(registry, out)
    address = push(out, push_to, public) if push_to else (out / "index.html").resolve().as_uri()
    create_link_artifact(address, "gallery", key="gallery")
    if left_out:
        raise BundleError(
            "all versions can be shown",
            found="; ".join(f"{name}: {why.splitlines()[0]}" for name, why in left_out.items()),
            remedy="`splatyard verify` says more; the others are shown",
        )
    return address
