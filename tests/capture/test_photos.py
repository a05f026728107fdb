"""The reader of photos: copies, bursts and photos from one spot are left out; photos of a walk never are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pipeline.capture import stage
from pipeline.capture.metadata import exif_of
from pipeline.capture.model import Capture
from pipeline.capture.params import CaptureParams
from pipeline.capture.photos.repeats import Shot, find_repeats, shot_of
from pipeline.errors import CaptureError
from pipeline.geometry import Pose, matrix_from_rotvec
from tests.capture.conftest import asymmetric, fill, truncate
from tests.capture.test_images import encoded, with_tags
from tests.paths import FOX, REDKITCHEN, needs_real
from tests.synthetic import CAMERA, Room, look_at, walk

Read = Callable[[Path], Capture]
MAKE, MODEL, ORIENTATION, EQUIVALENT, TAKEN, FRACTION = 0x010F, 0x0110, 0x0112, 0xA405, 0x9003, 0x9291


def test_photos_are_read_in_natural_order(tmp_path: Path, read: Read) -> None:
    """p10 comes after p9; images are copied; nothing but EXIF is claimed to be known."""
    capture = read(fill(tmp_path / "in", 11))
    assert [frame.name for frame in capture.frames] == [f"p{i}.jpg" for i in range(11)]
    assert (capture.root / capture.frames[10].image).read_bytes() == (tmp_path / "in" / "p10.jpg").read_bytes()
    assert (capture.kind, capture.ordered, capture.has_poses, capture.scale_sigma) == ("photos", False, False, None)
    assert {frame.focal_source for frame in capture.frames} == {"guessed"}


def test_mixed_cameras_and_formats(tmp_path: Path, read: Read) -> None:
    """Each photo has its own size, orientation and focal length."""
    folder = tmp_path / "in"
    folder.mkdir()
    turned = encoded(
        asymmetric(80, 60).transpose(Image.Transpose.ROTATE_90), "JPEG", with_tags({0x0112: 6}, {0xA405: 28})
    )
    (folder / "a.JPG").write_bytes(turned)
    (folder / "b.heic").write_bytes(encoded(asymmetric(64, 48), "HEIF", quality=90))
    (folder / "c.png").write_bytes(encoded(asymmetric(50, 40), "PNG"))
    capture = read(folder)
    assert [(f.camera.width, f.camera.height, f.focal_source) for f in capture.frames] == [
        (80, 60, "exif"),
        (64, 48, "guessed"),
        (50, 40, "guessed"),
    ]
    for frame in capture.frames:
        red = np.asarray(Image.open(capture.root / frame.image))[..., 0].astype(float)
        middle = red.shape[1] // 2
        assert red[:, : middle - 4].mean() > 150 > red[:, middle + 4 :].mean()  # the red half is on the left


@pytest.mark.parametrize(("form", "suffix"), [("WEBP", ".jpg"), ("WEBP", ".webp"), ("TIFF", ".TIF"), ("JPEG", ".jfif")])
def test_photos_of_browsers_and_programs(form: str, suffix: str, tmp_path: Path, read: Read) -> None:
    """WebP by any name, TIFF, and JFIF: upright, with their focal length; a TIFF of floats is no photo."""
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(5):
        image = Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 60, 3), np.uint8))
        image.paste(asymmetric(60, 40).resize((40, 30)), (0, 0))
        options = {"lossless": True} if form == "WEBP" else {}
        data = encoded(image, form, with_tags({ORIENTATION: 6}, {EQUIVALENT: 28}), **options)
        (folder / f"p{i}{suffix}").write_bytes(data)
    if form == "TIFF":
        Image.fromarray(np.ones((40, 60), np.float32)).save(folder / "p9.tif")
    capture = read(folder)
    assert [(f.camera.width, f.camera.height, f.focal_source) for f in capture.frames] == [(40, 60, "exif")] * 5
    seen = np.asarray(Image.open(capture.root / capture.frames[0].image)).astype(int)
    assert seen[5, -5].argmax() == 0  # red came from the left, at the top
    assert seen[35, -5].argmax() == 1
    assert [skipped.file for skipped in capture.skipped] == (["p9.tif"] if form == "TIFF" else [])


def test_truncated_photo_is_skipped_and_reported(tmp_path: Path, read: Read) -> None:
    """One bad among ten is left out, by name and reason."""
    folder = fill(tmp_path / "in", 10)
    truncate(folder / "p3.jpg")
    capture = read(folder)
    assert [skipped.file for skipped in capture.skipped] == ["p3.jpg"]
    assert "truncated" in capture.skipped[0].reason
    assert "p3.jpg" not in [frame.name for frame in capture.frames]


def test_too_many_truncated_photos_stop(tmp_path: Path, read: Read) -> None:
    """Two of ten pass, three don't; the error names them."""
    folder = fill(tmp_path / "in", 10)
    truncate(folder / "p1.jpg")
    truncate(folder / "p2.jpg")
    assert len(read(folder).frames) == 8
    truncate(folder / "p5.jpg")
    with pytest.raises(CaptureError, match="20%") as error:
        read(folder)
    assert "3 of 10" in error.value.found
    assert "p1.jpg" in error.value.found


def test_two_photos_are_too_few(tmp_path: Path, read: Read) -> None:
    """Three are the least that can be placed."""
    with pytest.raises(CaptureError, match="at least 3"):
        read(fill(tmp_path / "in", 2))


def test_the_same_shot_twice_is_taken_once(tmp_path: Path, read: Read) -> None:
    """IMG_1.HEIC next to IMG_1.jpg: the JPEG stays and the other is reported, without counting as bad."""
    folder = fill(tmp_path / "in", 3)
    for i in range(3):
        (folder / f"P{i}.HEIC").write_bytes(encoded(asymmetric(), "HEIF"))
    capture = read(folder)
    assert len(capture.frames) == 3
    assert {skipped.file for skipped in capture.skipped} == {"P0.HEIC", "P1.HEIC", "P2.HEIC"}


def test_spaces_and_letters_beyond_ascii(tmp_path: Path, read: Read) -> None:
    """Paths and file names may hold any letters."""
    folder = fill(tmp_path / "Küche in Łódź", 3)
    (folder / "p1.jpg").rename(folder / "Foto 1 größer.jpg")
    capture = read(folder)
    assert "Foto 1 größer.jpg" in [frame.name for frame in capture.frames]
    assert all((capture.root / frame.image).is_file() for frame in capture.frames)


def test_names_that_differ_in_case_are_two_photos(tmp_path: Path, read: Read) -> None:
    """IMG_0.JPG and img_0.jpg of two phones, and a.JPG beside a.jpg: files of their own, in any file system."""
    folder, rng = tmp_path / "in", np.random.default_rng(0)
    folder.mkdir()
    names = ["IMG_0.JPG", "a.JPG", "a.jpg", "img_0.jpg"]
    for name in names:
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / name)
    (folder / "IMG_0.HEIC").write_bytes(encoded(asymmetric(), "HEIF"))
    capture = read(folder)
    assert sorted(frame.name for frame in capture.frames) == names
    assert len({frame.image.casefold() for frame in capture.frames}) == 4
    for frame in capture.frames:
        assert (capture.root / frame.image).read_bytes() == (folder / frame.name).read_bytes()
    assert [skipped.file for skipped in capture.skipped] == ["IMG_0.HEIC"]


@pytest.mark.parametrize("named", [".", "images"])
def test_a_folder_of_images_for_each_camera(named: str, tmp_path: Path, read: Read) -> None:
    """images/left and images/right, as of rigs and of COLMAP: one capture, and equal sizes don't make one camera."""
    rng = np.random.default_rng(0)
    for camera in ("left", "right"):
        (tmp_path / "in/images" / camera).mkdir(parents=True)
        for i in range(2):
            image = Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8))
            image.save(tmp_path / f"in/images/{camera}/000{i}.jpg")
    capture = read(tmp_path / "in" / named)
    names = ["left_0000.jpg", "left_0001.jpg", "right_0000.jpg", "right_0001.jpg"]
    assert [frame.name for frame in capture.frames] == names
    assert [frame.sensor for frame in capture.frames] == ["left: 64 x 48"] * 2 + ["right: 64 x 48"] * 2
    for frame in capture.frames:
        stored = tmp_path / "in/images" / frame.name.replace("_", "/")
        assert (capture.root / frame.image).read_bytes() == stored.read_bytes()
    (tmp_path / "in/images").rename(tmp_path / "in/rooms")
    with pytest.raises(CaptureError, match="one capture at a time"):
        read(tmp_path / "in")


def photo(seed: int, tags: dict[int, object], camera: dict[int, object], form: str = "JPEG", width: int = 96) -> bytes:
    """A photo of noise with EXIF and a position in Zurich."""
    noise = np.random.default_rng(seed).integers(0, 255, (64, width, 3)).astype(np.uint8)
    exif = with_tags(tags, camera)
    exif.get_ifd(0x8825).update(
        {1: "N", 2: (47.0, 22.0, 12.0 + seed), 3: "E", 4: (8.0, 32.0, 24.0), 5: b"\0", 6: 410.0}
    )
    return encoded(Image.fromarray(noise), form, exif)


def test_several_phones_are_told_apart(tmp_path: Path, read: Read) -> None:
    """By make and model, by lens, by size where EXIF says nothing; photos come camera by camera, and a note counts."""
    phone: dict[int, object] = {MAKE: "Acme", MODEL: "One"}
    other: dict[int, object] = {MAKE: "Acme", MODEL: "Two"}
    photos = [
        photo(0, phone, {0x920A: 5.7, EQUIVALENT: 26}),
        photo(1, other, {0x920A: 5.7, EQUIVALENT: 26}),
        photo(2, phone, {0x920A: 5.7, EQUIVALENT: 26}),
        photo(3, phone, {0x920A: 1.5, EQUIVALENT: 13}),
        photo(4, {}, {}),
        photo(5, {ORIENTATION: 6}, {}),
        photo(6, {}, {}, width=80),
    ]
    (tmp_path / "in").mkdir()
    for i, data in enumerate(photos):
        (tmp_path / "in" / f"p{i}.jpg").write_bytes(data)
    capture = read(tmp_path / "in")
    one, wide, two = "Acme One 5.7 mm", "Acme One 1.5 mm", "Acme Two 5.7 mm"
    assert [(frame.name[1], frame.sensor) for frame in capture.frames] == [
        ("0", one),
        ("2", one),
        ("1", two),
        ("3", wide),
        ("4", "unknown, 96 x 64"),
        ("5", "unknown, 96 x 64"),
        ("6", "unknown, 80 x 64"),
    ]
    (note,) = [note for note in capture.notes if "cameras" in note]
    assert note.startswith("5 cameras, each with intrinsics of its own: Acme One 5.7 mm (2 photos), Acme Two")


def test_the_only_camera_has_no_name(tmp_path: Path, read: Read) -> None:
    """Nor is there a note."""
    (tmp_path / "in").mkdir()
    for i in range(3):
        (tmp_path / "in" / f"{i}.jpg").write_bytes(photo(i, {MODEL: "One"}, {}))
    capture = read(tmp_path / "in")
    assert {frame.sensor for frame in capture.frames} == {None}
    assert not any("camera" in note for note in capture.notes)


def test_copies_are_skipped(tmp_path: Path, read: Read) -> None:
    """With the reason, without their files, and not as unreadable ones; the copy that has EXIF stays."""
    folder = fill(tmp_path / "in", 4)
    (folder / "p8.jpg").write_bytes((folder / "p1.jpg").read_bytes())
    (folder / "p9.png").write_bytes(encoded(Image.open(folder / "p3.jpg"), "PNG", with_tags({MODEL: "A"}, {})))
    (folder / "masks").mkdir()
    mask = np.full((64, 96), 255, np.uint8)
    mask[:, :20] = 0
    for name in ("p1", "p8"):
        (folder / "masks" / f"{name}.png").write_bytes(encoded(Image.fromarray(mask), "PNG"))
    capture = read(folder)
    assert [frame.name for frame in capture.frames] == ["p0.jpg", "p1.jpg", "p2.jpg", "p9.png"]
    reasons = {skipped.file: skipped.reason for skipped in capture.skipped}
    assert reasons == {"p8.jpg": "the same image as another: p1.jpg", "p3.jpg": "the same image as another: p9.png"}
    written = {path.name for path in capture.root.rglob("*") if path.is_file()}
    assert written == {"capture.json", "p0.jpg", "p1.jpg", "p1.png", "p2.jpg", "p9.png"}


def test_too_few_different_photos(tmp_path: Path, read: Read) -> None:
    """Five copies of two photos are two."""
    folder = fill(tmp_path / "in", 2)
    for i in range(3):
        (folder / f"copy{i}.jpg").write_bytes((folder / "p0.jpg").read_bytes())
    with pytest.raises(CaptureError, match="3 different photos") as error:
        read(folder)
    assert error.value.found == "2; 3 repeat them"


@pytest.mark.parametrize("keep", [False, True])
def test_no_image_tells_where_it_was_taken(keep: bool, tmp_path: Path) -> None:
    """Copied, rotated and converted photos lose EXIF; the capture has the location where it is requested."""
    folder = tmp_path / "in"
    folder.mkdir()
    forms = {
        "a.jpg": ("JPEG", 1),
        "b.jpg": ("JPEG", 6),
        "c.png": ("PNG", 1),
        "d.png": ("PNG", 8),
        "e.heic": ("HEIF", 1),
    }
    for seed, (name, (form, turn)) in enumerate(forms.items()):
        (folder / name).write_bytes(photo(seed, {MODEL: "secret", ORIENTATION: turn}, {}, form))
    out = tmp_path / "canonical"
    stage.run({"source": folder}, CaptureParams(keep_gps=keep), out)
    capture = Capture.load(out)
    assert len(capture.frames) == len(forms)
    for frame in capture.frames:
        data = (out / frame.image).read_bytes()
        assert not [word for word in (b"Exif", b"eXIf", b"secret", b"GPS") if word in data]
        assert exif_of(Image.open(out / frame.image)).position is None
    if not keep:
        assert capture.location is None
        return
    assert capture.location is not None
    assert capture.location.latitude_deg == pytest.approx(47 + 22 / 60 + 14 / 3600)
    assert capture.location.longitude_deg == pytest.approx(8.54)
    assert (capture.location.altitude_m, capture.location.images) == (410.0, 5)
    assert capture.location.spread_m == pytest.approx(30.9, abs=0.1)  # a second of latitude


@pytest.mark.parametrize("kind", ["polycam", "rgbd"])
def test_no_reader_copies_where_images_were_taken(kind: str, copy_of: Callable[[str], Path], read: Read) -> None:
    """Their images are those of phones, too; a turn that is to be ignored goes as well."""
    source = copy_of(kind)
    for file in source.rglob("*.jpg"):
        exif = with_tags({MODEL: "secret", ORIENTATION: 6}, {})
        exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 12.0)})
        Image.open(file).save(file, exif=exif.tobytes(), quality=95)
    capture = read(source)
    for frame in capture.frames:
        data = (capture.root / frame.image).read_bytes()
        assert not [word for word in (b"Exif", b"secret") if word in data]


STAND = look_at(np.array([2.6, 0.9, 1.3]), np.array([1.2, 2.2, 0.7]), roll_deg=4)
Take = Callable[..., Shot]


@pytest.fixture
def take(room: Room, tmp_path: Path) -> Take:
    """A function that takes a photo: a turn [deg] and a step to the right [m] away from where one stands."""
    rng = np.random.default_rng(5)

    def run(
        file: str,
        *,
        turn: float = 0.0,
        step: float = 0.0,
        time: float | None = None,
        camera: str = "A",
        blur: float = 0,
    ) -> Shot:
        turned = STAND.rotation @ matrix_from_rotvec(np.deg2rad([0.3 * turn, turn, 0.0]))
        pose = Pose(turned, STAND.translation + step * STAND.rotation[:, 0])
        rgb = room.render(CAMERA, pose)[0] + rng.normal(0, 2, (CAMERA.height, CAMERA.width, 3))
        image = Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
        image.save(tmp_path / file, quality=95)
        return shot_of(Image.open(tmp_path / file), file, tmp_path / file, camera, time)

    return run


def test_the_sharpest_of_a_burst_stays(take: Take) -> None:
    """Hands tremble by half a degree within a second; what lies later or is another camera's stays."""
    shots = [
        take("0.jpg", time=10.0, blur=0.8),
        take("1.jpg", time=10.2, turn=0.4),
        take("2.jpg", time=10.4, turn=-0.5, blur=1.2),
        take("3.jpg", time=11.5, turn=0.5),
        take("4.jpg", time=10.3, turn=0.3, camera="B"),
    ]
    reason = "of one burst with a sharper one: 1.jpg"
    assert find_repeats(shots) == {0: reason, 2: reason}


def test_steps_within_a_second_stay(take: Take) -> None:
    """Two centimetres to the side move the image by as little as trembling does, but show depth."""
    assert find_repeats([take(f"{i}.jpg", time=10 + 0.2 * i, step=0.02 * i) for i in range(4)]) == {}


@pytest.mark.parametrize(
    ("names", "burst"),
    [
        (("IMG_1_BURST001.jpg", "IMG_1_BURST002.jpg"), True),
        (("0IMG_0_BURST20240229120000123_COVER.jpg", "1IMG_1_BURST20240229120000123.jpg"), True),
        (("IMG_1_BURST001.jpg", "IMG_2_BURST002.jpg"), False),
        (("IMG_1.jpg", "IMG_2.jpg"), False),
    ],
)
def test_names_tell_bursts_without_times(take: Take, names: tuple[str, str], burst: bool) -> None:
    """The same stamp of time, or the same name before the word."""
    shots = [take(names[0], blur=0.5), take(names[1], turn=0.4)]
    assert list(find_repeats(shots)) == ([0] if burst else [])


def test_from_one_spot(take: Take) -> None:
    """From a tripod one photo stays whenever it was taken; a thousandth of a turn more is another photo."""
    shots = [take("0.jpg", time=0.0), take("1.jpg", time=900.0, blur=0.6), take("2.jpg", turn=0.5, time=1800.0)]
    assert find_repeats(shots) == {1: "shows the same as another: 0.jpg"}


def test_copies_under_other_names(take: Take, tmp_path: Path) -> None:
    """Among equal images the shorter name is kept, and the original of a smaller copy without EXIF."""
    original = take("b.jpg", camera="A")
    twin = shot_of(Image.open(original.image), "b (1).jpg", original.image, "A", None)
    assert find_repeats([twin, original]) == {0: "the same image as another: b.jpg"}
    shots = []
    for file, size, quality, camera in (("sent.jpg", (640, 480), 60, ""), ("whole.jpg", (960, 720), 95, "A")):
        Image.open(original.image).resize(size, Image.Resampling.BICUBIC).save(tmp_path / file, quality=quality)
        shots.append(shot_of(Image.open(tmp_path / file), file, tmp_path / file, camera, None))
    assert find_repeats([*shots, take("c.jpg", step=0.2)]) == {0: "shows the same as another: whole.jpg"}


def test_a_walk_stays_whole(room: Room, tmp_path: Path) -> None:
    """Even of a slow one, whose photos lie two in a second and 3 cm apart."""
    shots = []
    for i, pose in enumerate(walk(200)[:8]):
        path = tmp_path / f"{i}.png"
        Image.fromarray(room.render(CAMERA, pose)[0]).save(path)
        shots.append(shot_of(Image.open(path), path.name, path, "A", 0.5 * i))
    assert find_repeats(shots) == {}


@needs_real
@pytest.mark.real
@pytest.mark.parametrize(("files", "most"), [(FOX.glob("*.jpg"), 0), (REDKITCHEN.glob("*.color.jpg"), 4)])
def test_real_walks_stay_even_as_if_taken_at_once(files: list[Path], most: int) -> None:
    """All of 50 photos of a walk; of a depth camera's 200 images those between which it only rotated may be dropped."""
    shots = [shot_of(Image.open(file), file.name, file, "A", 0.0) for file in sorted(files)]
    assert len(shots) >= 50
    assert len(find_repeats(shots)) <= most
