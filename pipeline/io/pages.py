"""Pages, reports and cards from templates."""

from __future__ import annotations

from importlib import metadata

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, name: str, **values: object) -> str:
    """Fill in a template from the folder `templates` of a package or of `pipeline`; values are escaped in HTML.

    Every template knows the `project`'s address, "" where the installed package states none.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline")]),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values, project=project_address())


def project_address() -> str:
    """The project's home page, as the installed package states it; "" where it states none."""
    try:
        stated = metadata.metadata("splatyard").get_all("Project-URL", [])
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return ""
    return next((line.partition(", ")[2] for line in stated if line.startswith("Homepage, https://")), "")
