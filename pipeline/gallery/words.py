"""What gates and figures mean, for people who have not read the documentation."""

from __future__ import annotations

from pipeline.check.quality import Gate

MEANING = {
    "held_out_psnr": "Pictures drawn from the splat were compared with photos that training never saw. "
    "24 dB looks alike at a glance, above 30 dB differences are hard to find.",
    "held_out_ssim": "The same comparison by structure instead of brightness: 1 is identical.",
    "splat_mesh_depth": "How far what a robot sees (the splat) lies from what it bumps into (the mesh), typically.",
    "splat_mesh_depth_p90": "The same distance for the worst tenth of the picture.",
    "mesh_held_out_depth": "How far the mesh lies from depth images that it was not made from.",
    "gravity": "How sure it is which way is down. One degree off is a slope that a robot feels.",
    "scale": "How sure it is how long a metre is. 0.01 means a room of 10 m may be 10 cm longer or shorter.",
    "registered": "The share of photos whose place in the scene was found.",
    "reprojection": "How far points of the map land beside where the photos show them.",
    "walkable": "The floor on which a robot of half a metre fits and which it can reach.",
    "floor_holes": "Floor that looks solid and has nothing under it to stand on.",
    "floaters": "Surface in the air where the camera went through, so where nothing can be.",
    "drop_test": "A thousand balls and boxes were dropped all over the floor; so many fell through or were thrown out.",
    "drop_height": "How far above or below the floor the dropped bodies came to rest, at worst.",
    "coverage": "From this share of places and headings a robot's pictures can be trusted. "
    "Elsewhere the capture has seen too little.",
    "registration": "How far the surface of an imported splat lies from the mesh that came with it, typically.",
    "overlap": "The share of the surfaces that an imported splat and its mesh both show. "
    "A splat of another place has little.",
}
"""By the gate's name."""

UNITS = {"m2": "m²", "degrees": "°"}


def figure(value: float | None, unit: str) -> str:
    """A figure with its unit, as short as it is honest."""
    if value is None:
        return "unknown"
    digits = 4 if abs(value) < 0.01 else 3 if abs(value) < 0.1 else 2
    number = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return f"{number} {UNITS.get(unit, unit)}".strip().replace(" °", "°")


def must_be(gate: Gate) -> str:
    """The threshold in words."""
    return f"at {'most' if gate.comparison == '<=' else 'least'} {figure(gate.threshold, gate.unit)}"


def size_of(count: int) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000  # pyright: ignore[reportAssignmentType]
    return f"{count:.1f} GB"


def counted(number: int, thing: str) -> str:
    """`1 scene`, `2 scenes`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
