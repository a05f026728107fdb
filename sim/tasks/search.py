"""`search`: as `navigate`, but the ball lies at another of the scene's goals in each episode."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from sim.tasks.navigate import LEAST_WAY, NAVIGATE, YELLOW
from sim.tasks.way import WayCourse

SEARCH = replace(NAVIGATE, name="search", course=partial(WayCourse, least_way=LEAST_WAY, ball_color=YELLOW))
