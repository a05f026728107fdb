"""Draw the images of README and docs anew from a bundle of the sample hall: `make docs-images`.

    python scripts/docs_images.py bundles/hall/1.0.0
    python scripts/docs_images.py bundles/hall/1.0.0 hero arms      # only these

Every film is that of a command as a user types it, which is named beside it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from flows.cli import main
from flows.demo.recording import images_in
from pipeline import Bundle

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
SAMPLE = ROOT / "scene_cards" / "samples" / "hall" / "keyframes" / "images"
GAP = 6
"""Between images of a sheet [px]."""
CAPTION = 26
"""Height of the line below an image [px]."""
PAPER, INK = (255, 255, 255), (40, 44, 52)

Drawer = Callable[[Path, Path], None]
"""Draws an image of a bundle, with a folder for films."""


def film(words: str, bundle: Path, video: Path) -> list[Image.Image]:
    """The images of the film that `splatyard sim BUNDLE` makes with these words."""
    code = main(["sim", str(bundle), *words.split(), "--video", str(video)])
    if code:
        raise SystemExit(code)
    return [Image.fromarray(image) for image in images_in(video)]


def sheet(tiles: Sequence[tuple[Image.Image, str]], across: int, width: int) -> Image.Image:
    """Images with captions, in rows; each as wide as given."""
    scaled = [(tile.resize((width, round(tile.height * width / tile.width))), text) for tile, text in tiles]
    high = max(tile.height for tile, _ in scaled)
    caption = CAPTION if any(text for _, text in scaled) else 0
    rows = -(-len(scaled) // across)
    page = Image.new("RGB", (across * (width + GAP) - GAP, rows * (high + caption + GAP) - GAP), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for number, (tile, text) in enumerate(scaled):
        left, top = number % across * (width + GAP), number // across * (high + caption + GAP)
        page.paste(tile, (left, top))
        draw.text((left + 2, top + high + 4), text, INK, font)
    return page


def photos(count: int) -> list[Image.Image]:
    """Photos of the sample capture, evenly spread."""
    files = sorted(SAMPLE.glob("*.jpg"))
    return [Image.open(files[round(index)]).convert("RGB") for index in np.linspace(4, len(files) - 5, count)]


def hero(bundle: Path, work: Path) -> None:
    """A Go2 that looks for a ball, beside photos that the place was built from."""
    frames = film("--robot go2 --driver find --envs 1 --seconds 16 --follow", bundle, work / "hero.mp4")
    side = sheet([(photo, "") for photo in photos(3)], 1, 140)
    height = side.height
    pages = []
    for frame in frames[::4][:60]:
        scaled = frame.resize((round(frame.width * height / frame.height), height))
        page = Image.new("RGB", (scaled.width + GAP + side.width, height), PAPER)
        page.paste(scaled, (0, 0))
        page.paste(side, (scaled.width + GAP, 0))
        pages.append(page)
    palette = pages[0].quantize(64)
    colored = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    colored[0].save(IMAGES / "hero.gif", save_all=True, append_images=colored[1:], duration=160, loop=0, optimize=True)


def overview(bundle: Path, _work: Path) -> None:
    """What goes in, and what comes out."""
    drawn = bundle / "images"
    mesh = Image.open(drawn / "mesh.jpg")
    coverage = Image.open(drawn / "coverage.jpg")
    if coverage.height > coverage.width:
        coverage = coverage.rotate(90, expand=True)
    tiles = [
        (photos(1)[0], "in: photos, with or without depth"),
        (_left(Image.open(drawn / "view_1.jpg")), "out: a splat, for cameras"),
        (mesh.crop((0, 0, mesh.width // 2, mesh.height // 2)), "a mesh, for physics"),
        (coverage, "where images can be trusted"),
    ]
    fitted = [(ImageOps.pad(tile.convert("RGB"), (640, 480), color=PAPER), text) for tile, text in tiles]
    sheet(fitted, 4, 300).save(IMAGES / "overview.jpg", quality=85)


def _left(image: Image.Image) -> Image.Image:
    """The first of the images that stand side by side."""
    return image.crop((0, 0, min(image.width, round(image.height * 4 / 3)), image.height))


def hall(bundle: Path, _work: Path) -> None:
    """A held-out photo, the splat and its depth from there, and the mesh."""
    view, mesh = Image.open(bundle / "images" / "view_0.jpg"), Image.open(bundle / "images" / "mesh.jpg")
    quarter = view.width // 4
    parts = [view.crop((number * quarter, 0, (number + 1) * quarter, view.height)) for number in (0, 1, 3)]
    corner = mesh.crop((0, mesh.height // 2, mesh.width // 2, mesh.height))
    corner = ImageOps.fit(corner, (quarter * 2, view.height * 2)).resize((quarter, view.height))
    texts = ("a photo kept from training", "the splat, from there", "its depth", "the mesh")
    sheet([*zip([*parts, corner], texts, strict=True)], 4, 310).save(IMAGES / "hall.jpg", quality=85)


def frames_of(name: str, words: str, count: int, across: int) -> Drawer:
    """Images of a film, evenly spread."""

    def draw(bundle: Path, work: Path) -> None:
        frames = film(words, bundle, work / f"{name}.mp4")
        chosen = [frames[round(index)] for index in np.linspace(0, len(frames) - 1, count)]
        sheet([(frame, "") for frame in chosen], across, 420).save(IMAGES / f"{name}.jpg", quality=85)

    return draw


def navigate(bundle: Path, work: Path) -> None:
    """What nine rovers see."""
    frames = film("--task navigate --envs 9 --seconds 4", bundle, work / "navigate.mp4")
    frames[len(frames) // 2].save(IMAGES / "navigate.png")


def tables(bundle: Path, work: Path) -> None:
    """What an arm's two cameras see at the hall's table, and at those of five drawn rooms."""
    tiles = []
    for number, place in enumerate([bundle, *rooms("table", 5, work)]):
        words = "--task put_cube_on_plate --envs 1 --seconds 1"
        tiles.append(
            (film(words, place, work / f"table_{number}.mp4")[0], "the hall" if not number else f"room {number}")
        )
    sheet(tiles, 6, 200).save(IMAGES / "tables.jpg", quality=85)


def rooms(feature: str, count: int, work: Path) -> list[Path]:
    """Drawn rooms with a feature."""
    main(["rooms", str(count), "--with", feature, "--seed", "2003", "--out", str(work / feature)])
    return sorted((work / feature).glob("*/1.0.0"))


DRAWERS: dict[str, Drawer] = {
    "hero": hero,
    "overview": overview,
    "hall": hall,
    "find": frames_of("find", "--driver find --envs 1 --seconds 20 --follow", 6, 3),
    "arms": frames_of("arms", "--task put_cube_on_plate --robot panda --envs 1 --seconds 12 --follow", 4, 2),
    "navigate": navigate,
    "tables": tables,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", nargs="*", choices=[[], *DRAWERS])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for chosen in options.images or DRAWERS:
            DRAWERS[chosen](Bundle.open(options.bundle).root, Path(folder))
