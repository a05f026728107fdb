"""The friction that robots get is the one that was declared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.audit.friction import wrong_friction
from pipeline.regions.params import Area
from pipeline.regions.regions import Regions
from pipeline.scenes.manifest import Manifest, Provenance, StageRecord

MAT = Area(name="mat", polygon=((0, 0), (1, 0), (1, 1)), friction=0.8)


def test_halved_friction_is_named():
    """With what was declared, and where; the same factor is no fault, and an area that nobody declared is one."""
    record = StageRecord(
        name="regions", key="0", backend="", reason="", params={"areas": [MAT.model_dump(mode="json")]}
    )
    manifest = Manifest.model_construct(provenance=Provenance.model_construct(stages=(record,)))
    floor = replace(Regions.without_floor(0.5, ""), areas=(MAT,), area=np.zeros((1, 1), np.int16))
    assert wrong_friction(manifest, floor) == []
    halved = replace(floor, areas=(MAT.model_copy(update={"friction": 0.4}),))
    ((name, told, has, middle),) = wrong_friction(manifest, halved)
    assert (name, told, has, *middle) == ("mat", 0.8, 0.4, 0.25, 0.25)
    unknown = replace(floor, areas=(MAT.model_copy(update={"name": "ice", "friction": 0.1}),))
    assert [one[:3] for one in wrong_friction(manifest, unknown)] == [("ice", 1.0, 0.1)]
