"""What a scene's card says of its gates."""

from __future__ import annotations

from pathlib import Path

from pipeline import Bundle
from pipeline.check.quality import Quality
from pipeline.gallery.scenes import card_of
from pipeline.scenes.summary import SceneSummary
from tests.publish.variants import variant


def test_an_object_by_itself_has_its_size_and_mass(parcel: Path):
    """Instead of a floor, which nobody misses."""
    bundle = Bundle.open(parcel)
    card = card_of(bundle, SceneSummary.of(bundle.manifest, bundle.files.sha256, 0.0))
    assert "object" in card.tags
    assert "no floor" not in card.tags
    length = f"{bundle.objects[0].record.size[2]:.2f} m"
    assert length in card.thing
    assert "kg (guessed)" in card.thing


def test_counts_gates_that_were_not_measured(yard, tmp_path):
    """Neither passed nor failed; one that should have been measured and wasn't has failed."""
    folder = yard / "dream/1.0.0"
    quality = Bundle.open(folder).quality
    added = [quality.gates[0].model_copy(update={"name": name, "applies": False}) for name in ("first", "second")]
    more = Quality(gates=(*quality.gates, *added)).model_dump_json().encode()
    bundle = Bundle.open(variant(folder, tmp_path, "1.0.1", files={"quality.json": more}))
    card = card_of(bundle, SceneSummary.of(bundle.manifest, bundle.files.sha256, 0.0))
    assert card.unmeasured == 2
    assert card.failed == ("scale",)
