"""The user's defaults: options win, then environment variables, then the user's config file, then ours.

The file is `splatyard/config.toml` in $XDG_CONFIG_HOME, or in ~/.config:

    bundles = "/data/bundles"
    registry = "s3://bucket/yard"
    engine = "mujoco"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import ConfigError

MAX_BYTES = 2**16


@dataclass(frozen=True)
class Setting:
    """A default that users may change, and the environment variable that does, if there is one."""

    default: str
    variable: str = ""


BUNDLES, REGISTRY, ENGINE = "bundles", "registry", "engine"
SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        BUNDLES: Setting("bundles", "SPLATYARD_BUNDLES"),
        REGISTRY: Setting("registry:./yard", "SPLATYARD_REGISTRY"),
        ENGINE: Setting("sapien"),
    }
)
"""All keys of the file."""


def config_file() -> Path:
    """Where the file lies, whether it is there or not."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(home if Path(home).is_absolute() else Path.home() / ".config") / "splatyard" / "config.toml"


def chosen(name: str) -> str:
    """What the user chose by the environment or the file; empty where neither says anything.

    Raises:
        ConfigError: When the file can't be read, has an unknown key, or a value that is no text.
    """
    return os.environ.get(SETTINGS[name].variable, "") or _read(config_file()).get(name, "")


def setting(name: str) -> str:
    """What the user chose, or else our default.

    Raises:
        ConfigError: As `chosen` does.
    """
    return chosen(name) or SETTINGS[name].default


def origin(name: str) -> str:
    """Where the value of a setting comes from, in a few words."""
    variable = SETTINGS[name].variable
    return variable if os.environ.get(variable) else "config file" if chosen(name) else "default"


@cache
def _read(file: Path) -> Mapping[str, str]:
    """The file's content; nothing if there is none."""
    import tomllib

    try:
        with file.open("rb") as opened:
            content = tomllib.loads(opened.read(MAX_BYTES).decode())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError("the config file is TOML", found=str(error), remedy="repair it", file=file) from error
    known = ", ".join(SETTINGS)
    for key, value in content.items():
        if key not in SETTINGS:
            raise ConfigError(f"the config file has the keys {known}", found=key, remedy="remove it", file=file)
        if not isinstance(value, str) or not value.strip():
            found, remedy = f"{key} = {value!r}", f'write a text in quotes: {key} = "{SETTINGS[key].default}"'
            raise ConfigError("a value of the config file is a text", found=found, remedy=remedy, file=file)
    return content
