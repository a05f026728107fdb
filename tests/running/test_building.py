"""Planning: backends, keys, names, versions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import BuildRequest, plan
from pipeline.align.params import AlignParams, scale_settings
from pipeline.errors import BusyError, CaptureError, CardError, MachineError, ReconstructionError
from pipeline.io.results import locked
from pipeline.machine import Gpu, Machine, package_versions
from pipeline.running import building
from pipeline.running.building import run_plan
from pipeline.running.sources import names_of
from pipeline.running.stages import STAGES
from pipeline.running.summary import summary
from pipeline.stage import Traits
from tests.capture.writers.video import write_video
from tests.synthetic import Room, walk, write_photos, write_polycam


@pytest.fixture(scope="module")
def photos(tmp_path_factory, room: Room) -> Path:
    """Three photos; enough to plan with."""
    folder = tmp_path_factory.mktemp("captures") / "Küche & Flur"
    write_photos(folder, room, walk(3))
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory, room: Room) -> Path:
    """A phone scan of three frames."""
    folder = tmp_path_factory.mktemp("captures") / "scan"
    write_polycam(folder, room, walk(3))
    return folder


@pytest.fixture
def request_(photos, tmp_path) -> BuildRequest:
    """A request whose outputs go to a fresh folder."""
    return BuildRequest(photos, out=tmp_path / "out")


def keys(request: BuildRequest) -> dict[str, str]:
    return {stage.name: stage.key for stage in plan(request).stages}


def changed(request: BuildRequest, other: BuildRequest) -> list[str]:
    old, new = keys(request), keys(other)
    return [name for name in old if old[name] != new[name]]


def pretend_bundle(request: BuildRequest) -> str:
    """Leave a bundle.json as the build would; returns its version."""
    last = plan(request).stages[-1]
    last.folder.mkdir(parents=True)
    (last.folder / "bundle.json").write_text(json.dumps({"provenance": {"build_key": last.params.build_key}}))
    return last.params.version


def test_too_few_images_are_refused_while_planning(photos, tmp_path):
    """A dry run ends as the build would."""
    few = tmp_path / "few"
    few.mkdir()
    for photo in sorted(photos.iterdir())[:2]:
        (few / photo.name).write_bytes(photo.read_bytes())
    with pytest.raises(CaptureError, match=r"capture\.min_frames") as error:
        plan(BuildRequest(few, out=tmp_path / "out"))
    assert error.value.found == "2"
    assert plan(BuildRequest(few, out=tmp_path / "out", settings=("capture.min_frames=2",))).traits.frames == 2


def test_an_estimate_refuses_nothing(tmp_path):
    """Only reading a video tells how many frames it gives; the plan says "about"."""
    video = write_video(tmp_path / "walk.mkv", [np.zeros((48, 64, 3), np.uint8)] * 15, options={"g": "999"})
    planned = plan(BuildRequest(video, out=tmp_path / "out", settings=("capture.min_frames=500",)))
    assert "about 12 images of a video" in planned.summary


def test_errors_of_a_result_name_the_capture(request_, photos):
    """Images of two places: the message names what the user gave, not a folder of the work folder."""
    planned = plan(request_)

    def run(stage):
        if stage.name != "poses":
            return True
        raise ReconstructionError("one place", found="2 places", remedy="two builds", file=stage.inputs["capture"])

    with pytest.raises(ReconstructionError, match="2 places") as error:
        run_plan(planned, run)
    assert error.value.file == str(photos.resolve())
    assert str(photos) in planned.log.read_text()
    assert ".work" not in str(error.value)


def test_stages_need_only_earlier_ones():
    """The list is in order of use."""
    names = ["source"]
    for stage in STAGES:
        assert set(stage.needs) <= set(names)
        names.append(stage.name)
        assert stage.load() is not None


def test_backends_follow_the_capture(request_, scan):
    """Photos go through SfM and stereo, a scan through its own poses and depth, and the plan says why."""
    by_name = {stage.name: stage for stage in plan(request_).stages}
    assert (by_name["poses"].backend, by_name["depth"].backend) == ("colmap", "mvs")
    by_name = {stage.name: stage for stage in plan(replace(request_, source=scan)).stages}
    assert (by_name["poses"].backend, by_name["depth"].backend) == ("refined", "combined")
    assert "poses" in by_name["poses"].reason
    assert by_name["poses"].params.backend == "refined"


def test_equal_requests_have_equal_keys(request_, tmp_path):
    """Where results go doesn't matter to what they are."""
    assert changed(request_, replace(request_, out=tmp_path / "elsewhere")) == []


def test_a_parameter_changes_what_depends_on_it(request_):
    """A splat setting leaves everything before the splat alone."""
    other = replace(request_, settings=("splat.gaussians=5000",))
    assert changed(request_, other) == ["splat", "coverage", "regions", "check", "bundle"]


def test_a_known_length_changes_everything_after_align(request_):
    """The scale is found in align."""
    other = replace(request_, settings=("align.known_length=0.3@0001.jpg:10,20:200,100",))
    assert changed(request_, other)[0] == "align"


def test_areas_of_the_card_reach_the_regions(request_, tmp_path):
    """And nothing before them; two of one name are an error that names the card."""
    card = tmp_path / "card.yaml"
    card.write_text("areas: [{name: ice, polygon: [[0, 0], [1, 0], [1, 2]], friction: 0.3}]")
    other = replace(request_, card=card)
    assert changed(request_, other) == ["regions", "check", "bundle"]
    assert next(s.params for s in plan(other).stages if s.name == "regions").areas[0].friction == 0.3
    card.write_text('areas: [{name: ice, color: "#ffffff"}, {name: ice, color: "#000000"}]')
    with pytest.raises(CardError, match=r"card\.yaml"):
        plan(other)


def test_a_changed_photo_changes_everything(request_, tmp_path):
    """Keys start from the content, not from names and dates."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(request_.source, copy)
    assert changed(request_, replace(request_, source=copy, name=plan(request_).name)) == ["bundle"]  # names its source
    first = sorted(copy.iterdir())[0]
    first.write_bytes(sorted(request_.source.iterdir())[1].read_bytes())
    assert set(changed(request_, replace(request_, source=copy))) == {stage.name for stage in STAGES}


def test_names_become_plain(request_):
    """Spaces and non-ASCII letters of the folder don't reach the bundle's name."""
    assert plan(request_).name == "kuche-flur"


def test_until_ends_the_plan(request_):
    """--until mesh plans no splat; a wrong name lists the right ones."""
    assert plan(replace(request_, until="mesh")).stages[-1].name == "mesh"
    with pytest.raises(CardError, match="one of capture, select"):
        plan(replace(request_, until="nope"))


def test_first_version_then_the_next(request_):
    """Same content keeps its version, other content gets the next minor one, and the old one stays."""
    assert pretend_bundle(request_) == "1.0.0"
    assert plan(request_).pending == ()
    other = replace(request_, settings=("splat.gaussians=5000",))
    assert plan(other).stages[-1].params.version == "1.1.0"
    assert pretend_bundle(other) == "1.1.0"
    assert plan(request_).stages[-1].params.version == "1.0.0"


def test_a_published_version_never_changes(request_):
    """Asking for a version that exists with other content is refused."""
    pretend_bundle(request_)
    with pytest.raises(CardError, match="never changes"):
        plan(replace(request_, version="1.0.0", settings=("splat.gaussians=5000",)))
    with pytest.raises(CardError, match=r"major\.minor\.patch"):
        plan(replace(request_, version="v2"))


def test_a_bundle_needs_no_intermediate_results(request_):
    """With the bundle there nothing runs, even when the work folder was deleted."""
    pretend_bundle(request_)
    assert run_plan(plan(request_)).executed == ()


def test_two_builds_of_one_name(request_):
    """The second is told to wait or choose another name."""
    planned = plan(request_)
    with locked(planned.work / ".build.lock", "it"), pytest.raises(BusyError, match="another --name"):
        run_plan(planned)


def test_missing_source(request_, tmp_path):
    """A path that isn't there is named."""
    with pytest.raises(CaptureError, match="nothing there"):
        plan(replace(request_, source=tmp_path / "nowhere"))


def test_typed_scale_wins_over_the_card(request_, tmp_path):
    """--camera-height replaces the card's known length."""
    card = tmp_path / "card.yaml"
    card.write_text("name: hall\nscale:\n  known_length: {metres: 0.3, image: 0001.jpg, a: [1, 2], b: [3, 4]}\n")
    align = {s.name: s.params for s in plan(replace(request_, card=card)).stages}["align"]
    assert align.known_length.metres == 0.3
    align = {
        s.name: s.params for s in plan(replace(request_, card=card, settings=scale_settings(camera_height=1.4))).stages
    }["align"]
    assert (align.known_length, align.camera_height) == (None, 1.4)
    align = {
        s.name: s.params
        for s in plan(replace(request_, card=card, settings=scale_settings(known_length="A4 sheet"))).stages
    }["align"]
    assert (align.known_length, align.sheet) == (None, "A4")


SCALE, RECIPE = "scale: {tag_size: 0.1, camera_height: 1.2}", "recipe: {align: {tag_size: 0.11, seed: 2}}"


@pytest.mark.parametrize(
    ("card", "typed", "settings", "stage", "expected"),
    [
        ("", {}, (), "align", {"tag_size": None, "camera_height": None, "seed": 0}),
        (SCALE, {}, (), "align", {"tag_size": 0.1, "camera_height": 1.2}),
        (RECIPE, {}, (), "align", {"tag_size": 0.11, "seed": 2}),
        (f"{SCALE}\n{RECIPE}", {}, (), "align", {"tag_size": 0.11, "camera_height": 1.2, "seed": 2}),
        ("", {"tag_size": 0.12}, (), "align", {"tag_size": 0.12}),
        (
            f"{SCALE}\n{RECIPE}",
            {"camera_height": 1.3},
            (),
            "align",
            {"tag_size": None, "camera_height": 1.3, "seed": 2},
        ),
        ("", {}, ("align.tag_size=0.16", "align.seed=3"), "align", {"tag_size": 0.16, "seed": 3}),
        ("", {}, ("align.camera_height=1.5",), "align", {"camera_height": 1.5}),
        (SCALE, {}, ("align.tag_size=0.16",), "align", {"tag_size": 0.16, "camera_height": 1.2}),
        (SCALE, {"tag_size": 0.12}, ("align.tag_size=0.16",), "align", {"tag_size": 0.16, "camera_height": None}),
        ("gates: {gravity: 2}", {}, (), "check", {"thresholds": {"gravity": 2.0}}),
        ("recipe: {check: {thresholds: {gravity: 2}}}", {}, (), "check", {"thresholds": {"gravity": 2.0}}),
        ("gates: {gravity: 2}", {}, ("check.thresholds={gravity: 3}",), "check", {"thresholds": {"gravity": 3.0}}),
        (
            "gates: {gravity: 2, scale: 1}",
            {},
            ("check.thresholds.gravity=3",),
            "check",
            {"thresholds": {"gravity": 3.0, "scale": 1.0}},
        ),
        ("areas: [{name: ice, color: '#ffffff'}]", {}, ("regions.areas=[]",), "regions", {"areas": ()}),
        ("source: {origin: filmed}", {}, (), "capture", {"origin": "filmed"}),
        ("source: {origin: rendered}", {}, (), "capture", {"origin": "rendered"}),
        ("source: {origin: filmed}", {}, ("capture.origin=generated",), "capture", {"origin": "generated"}),
    ],
)
def test_precedence(card, typed, settings, stage, expected, request_, tmp_path):
    """Default < card < typed option < --set; in a card the recipe wins over the sections."""
    file = tmp_path / "card.yaml"
    file.write_text(card or "{}")
    planned = plan(replace(request_, card=file, settings=(*scale_settings(**typed), *settings)))
    params = next(one.params for one in planned.stages if one.name == stage)
    assert {name: getattr(params, name) for name in expected} == expected


def test_thresholds_of_unknown_gates_are_refused(request_):
    """However they are given."""
    with pytest.raises(CardError, match="did you mean 'gravity'"):
        plan(replace(request_, settings=("check.thresholds={gravty: 2}",)))


def test_a_backend_that_cannot_run_stops_the_build_before_it_begins(request_, monkeypatch):
    """Whatever comes before it; one message with what is lacking and what to do. The plan can still be looked at."""
    forced = replace(request_, settings=("mesh.backend=nksr", "mesh.python=/opt/learned/bin/python"))
    asked: list[str] = []

    def machine(python: str = "") -> Machine:
        asked.append(python)
        return Machine(Gpu("NVIDIA L4", 24 * 2**30, 23 * 2**30, (8, 9)), frozenset({"torch"} if python else ()))

    monkeypatch.setattr(building, "this_machine", machine)
    planned = plan(forced)
    mesh = next(stage for stage in planned.stages if stage.name == "mesh")
    assert (mesh.backend, mesh.reason) == ("nksr", "asked for")
    with pytest.raises(MachineError, match="nksr is not installed") as caught:
        run_plan(planned, lambda stage: pytest.fail(f"ran {stage.name}"))
    assert "mesh.backend=nksr" in caught.value.rule
    assert "doctor" in caught.value.remedy
    assert "/opt/learned/bin/python" in asked
    assert not planned.work.exists()


def test_a_backend_of_an_optional_package_names_the_command_that_brings_it(request_, monkeypatch):
    """Open3D is not among the packages that come with splatyard."""
    installed = package_versions
    monkeypatch.setattr(
        "pipeline.running.engine.package_versions", lambda names: {} if "open3d" in names else installed(names)
    )
    planned = plan(replace(request_, settings=("mesh.backend=poisson",)))
    with pytest.raises(MachineError, match="open3d-cpu is not installed") as caught:
        run_plan(planned, lambda stage: pytest.fail(f"ran {stage.name}"))
    assert "pip install 'splatyard[poisson]'" in caught.value.remedy
    assert not planned.work.exists()


def test_results_that_are_there_need_no_gpu(request_, monkeypatch):
    """Nor does a build that ends before it."""
    monkeypatch.setattr(building, "this_machine", lambda _python="": Machine())
    forced = replace(request_, settings=("mesh.backend=nksr",))
    run_plan(plan(replace(forced, until="capture")), lambda _: True)
    planned = plan(forced)
    next(stage for stage in planned.stages if stage.name == "mesh").folder.mkdir(parents=True)
    ran: list[str] = []
    run_plan(planned, lambda stage: bool(ran.append(stage.name)) or True)
    assert "splat" in ran and "mesh" not in ran


def test_an_interpreter_is_no_part_of_a_key(request_):
    """Where a backend's packages lie changes no result."""
    elsewhere = replace(request_, settings=("mesh.python=/opt/learned/bin/python",))
    assert changed(request_, elsewhere) == []


PHONE = Traits("polycam", 68, has_poses=True, has_depth=True, has_gravity=True, ordered=True, has_scale=True)
PHOTOS = Traits("photos", 50, has_poses=False, has_depth=False, has_gravity=False, ordered=False)


def test_a_phone_scan():
    """All four come from its sensors."""
    assert summary(PHONE, {"poses": "refined", "depth": "combined", "align": "cpu"}, AlignParams()) == (
        "68 images of a polycam capture, the source's poses, refined on the images, the sensor's depth combined "
        "with stereo, gravity from the sensor, floor, walls and plumb lines, scale from the sensor"
    )


def test_images_that_are_listed_and_not_there_are_counted():
    """The plan says what the build will leave out."""
    text = summary(replace(PHONE, missing=("1.jpg", "2.jpg")), {}, None)
    assert text == "68 images of a polycam capture (2 more are listed, but not there)"


@pytest.mark.parametrize(
    ("align", "scale"),
    [
        (
            AlignParams(),
            "scale hinted by GPS or usual sizes, or assumed (its gate may fail: give --known-length or --tag-size)",
        ),
        (AlignParams(sheet="A4"), "scale from A4 sheets"),
        (AlignParams(tag_size=0.16), "scale from the tags' size"),
        (
            AlignParams(tag_size=0.16, camera_height=1.5),
            "scale from the most certain of the tags' size, the camera's height",
        ),
    ],
)
def test_photos(align, scale):
    """Nothing but images: what gives the scale is said."""
    text = summary(PHOTOS, {"poses": "colmap", "depth": "mvs", "align": "cpu"}, align)
    assert "poses from the images, depth by stereo from the images, gravity from floor, walls and plumb lines" in text
    assert text.endswith(scale)


def test_a_build_that_ends_early_says_less():
    """Until depth: nothing of gravity."""
    text = summary(PHONE, {"poses": "sensor", "depth": "sensor"}, None)
    assert text.endswith("the source's poses as they are, the sensor's depth")


def test_one_object_has_stages_of_its_own(scan: Path, tmp_path: Path):
    """By the option's setting or a card's recipe; other results than those of a place."""
    place = BuildRequest(scan, out=tmp_path)
    one = replace(place, settings=("capture.one_object=true",))
    functions = {stage.name: stage.stage.function for stage in plan(one).stages}
    assert functions["bundle"] == "pipeline.objects.alone:write_lone_bundle"
    assert functions["depth"] == ""
    assert changed(place, one) == [stage.name for stage in STAGES]
    card = tmp_path / "mug.yaml"
    card.write_text("recipe:\n  capture:\n    one_object: true\n")
    assert keys(replace(place, card=card)) == keys(one)
    for stage in plan(one).stages:
        assert callable(stage.stage.load())


def test_a_card_names_what_is_loose(scan: Path, tmp_path: Path):
    """By names and points; only the bundle is another."""
    card = tmp_path / "hall.yaml"
    card.write_text("movables: [box-3, [1.2, 0.4, 0.8]]\n")
    plain = tmp_path / "plain.yaml"
    plain.write_text("name: hall\n")
    request = BuildRequest(scan, name="hall", out=tmp_path)
    planned = plan(replace(request, card=card))
    assert dict(planned.stages[-1].params)["movables"] == ("box-3", (1.2, 0.4, 0.8))
    assert changed(replace(request, card=plain), replace(request, card=card)) == ["bundle"]


def test_a_card_says_where_on_the_earth_an_image_was_taken(scan: Path, tmp_path: Path):
    """Only the bundle is another."""
    card = tmp_path / "hall.yaml"
    card.write_text("earth: {image: IMG_1, latitude_deg: 47.3, longitude_deg: 8.5, heading_deg: 120}\n")
    plain = tmp_path / "plain.yaml"
    plain.write_text("name: hall\n")
    request = BuildRequest(scan, name="hall", out=tmp_path)
    told = dict(plan(replace(request, card=card)).stages[-1].params)["earth"]
    assert (told.image, told.latitude_deg, told.heading_deg) == ("IMG_1", 47.3, 120)
    assert changed(replace(request, card=plain), replace(request, card=card)) == ["bundle"]
    card.write_text("earth: {latitude_deg: 91, longitude_deg: 8.5, heading_deg: 120}\n")
    with pytest.raises(CardError, match="latitude_deg"):
        plan(replace(request, card=card))


def test_an_object_by_itself_has_no_movables(scan: Path, tmp_path: Path):
    """It is one."""
    card = tmp_path / "mug.yaml"
    card.write_text("movables: [all]\nrecipe: {capture: {one_object: true}}\n")
    with pytest.raises(CardError, match="movables"):
        plan(BuildRequest(scan, out=tmp_path, card=card))


def test_several_sources_are_read_each_by_itself_and_joined(scan, room, tmp_path):
    """What comes after is made of all; another source beside them reads none again; one alone is as it was."""
    for count, name in enumerate(("stairs", "attic"), 4):
        write_polycam(tmp_path / name, room, walk(count))
    stairs, attic = tmp_path / "stairs", tmp_path / "attic"
    place = BuildRequest(scan, name="house", out=tmp_path / "out")
    two, three = (plan(replace(place, others=others)) for others in ((stairs,), (stairs, attic)))
    assert [stage.name for stage in two.stages][:4] == ["capture-scan", "capture-stairs", "capture", "select"]
    assert two.stages[2].inputs.keys() == {"capture-scan", "capture-stairs"}
    assert two.traits.frames == 7
    first, second = ({stage.name: stage.key for stage in planned.stages} for planned in (two, three))
    assert first["capture-scan"] == second["capture-scan"]
    assert first["capture"] != second["capture"]
    assert first["bundle"] != second["bundle"]
    records = two.stages[-1].params.stages
    assert [record.name for record in records] == [stage.name for stage in two.stages[:-1]]
    assert [stage.name for stage in plan(replace(place, others=(stairs,), until="capture")).pending] == [
        "capture-scan",
        "capture-stairs",
        "capture",
    ]


def test_sources_of_one_name_have_names_of_their_own(tmp_path):
    """Whatever the numbers that they have already."""
    names = ("hall-2", "hall", "a/hall.zip", "b/hall", "Hall--2", "c/hall")
    assert names_of([tmp_path / name for name in names]) == ["hall-2", "hall", "hall-3", "hall-4", "hall-2-2", "hall-5"]


def test_a_capture_is_named_once(scan, tmp_path):
    """A copy of it would count twice, under whatever name it is."""
    shutil.copytree(scan, tmp_path / "again")
    for other in (scan, tmp_path / "again"):
        with pytest.raises(CaptureError, match="named once"):
            plan(BuildRequest(scan, others=(other,), out=tmp_path / "out"))


def test_links_are_between_several_captures(scan, tmp_path):
    """A card that was written for two says so when one is forgotten."""
    card = tmp_path / "card.yaml"
    card.write_text("links: [{a: scan--1, b: stairs--2}]\n")
    with pytest.raises(CardError, match="1 links, and one capture"):
        plan(BuildRequest(scan, card=card, out=tmp_path / "out"))
