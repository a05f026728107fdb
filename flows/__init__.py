"""Prefect flows and the command line."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pipeline.errors import MachineError
from pipeline.io.files import may_be_written, private_folder

PREFECT_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",  # a laptop without network must not log telemetry errors
    # a server whose database is locked (SQLite under load) or away (Postgres that restarts) answers so
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # [s], no less; by these a server knows which processes are lost
    "PREFECT_CLIENT_MAX_RETRIES": "8",  # after 2, 4, 8 ... s: a server may be away for some eight minutes
}
"""What every process of ours tells Prefect, unless its environment says something else."""

for _name, _value in PREFECT_SETTINGS.items():
    os.environ.setdefault(_name, _value)  # here, because Prefect reads them when it is imported

if "PREFECT_HOME" not in os.environ and not may_be_written(Path("~/.prefect")):
    with suppress(MachineError):  # then Prefect says what it misses
        os.environ["PREFECT_HOME"] = str(private_folder("prefect"))
