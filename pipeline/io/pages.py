"""Pages, reports and cards from templates."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, name: str, **values: object) -> str:
    """Fill in a template from the folder `templates` of a package or of `pipeline`; values are escaped in HTML."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("pipeline")]),
        autoescape=lambda name: name is None or name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(values)
