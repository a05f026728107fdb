"""Small arms with the structure of well-known ones, and numbers of their own; written as URDFs."""

from __future__ import annotations

from pathlib import Path

Joint = tuple[str, str, str, str, str]
"""Name, place in the link before, axis, limits, what else."""
UP, ACROSS = "0 0 1", "0 1 0"


def _link(name: str, boxes: list[tuple[str, str]], mass: float) -> str:
    shapes = "".join(
        f'<collision><origin xyz="{at}"/><geometry><box size="{size}"/></geometry></collision>' for at, size in boxes
    )
    inertia = mass * 0.0005
    return (
        f'<link name="{name}"><inertial><mass value="{mass}"/><inertia ixx="{inertia}" iyy="{inertia}" izz="{inertia}"'
        f' ixy="0" ixz="0" iyz="0"/></inertial>{shapes}</link>'
    )


def _joint(name: str, parent: str, child: str, at: str, axis: str, limit: str, more: str = "", kind: str = "") -> str:
    low, high, effort, speed = limit.split()
    return (
        f'<joint name="{name}" type="{kind or "revolute"}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{at}"/><axis xyz="{axis}"/>'
        f'<limit lower="{low}" upper="{high}" effort="{effort}" velocity="{speed}"/>{more}</joint>'
    )


def _chain(parts: list[tuple[str, str, float, str]]) -> str:
    """A base and links upwards: names, axes, distances from the joint before, limits; the last is called hand."""
    text, parent = _link("base", [("0 0 0.04", "0.1 0.1 0.08")], 2), "base"
    for number, (name, axis, away, limit) in enumerate(parts):
        child = "hand" if number == len(parts) - 1 else f"{name}_link"
        after = parts[number + 1][2] if number + 1 < len(parts) else 0
        boxes = [(f"0 0 {after / 2}", f"0.04 0.04 {after}")] if after > 0.05 else []
        text += ("" if child == "hand" else _link(child, boxes, 0.4)) + _joint(
            name, parent, child, f"0 0 {away}", axis, limit
        )
        parent = child
    return text


def _mimic(leader: str, factor: float) -> str:
    return f'<mimic joint="{leader}" multiplier="{factor}"/>'


def sliding() -> str:
    """Six joints, 0.7 m; fingers slide through opposite signs, the second after the first (Piper, and FR3's hand)."""
    chain = _chain(
        [
            ("pan", UP, 0.12, "-2.6 2.6 40 3"),
            ("lift", ACROSS, 0.02, "-0.3 2.2 40 3"),
            ("elbow", ACROSS, 0.27, "0 2.8 40 3"),
            ("roll", UP, 0.13, "-1.8 1.8 20 3"),
            ("flex", ACROSS, 0.13, "-1.3 2.1 20 3"),
            ("turn", UP, 0.07, "-2.5 2.5 20 3"),
        ]
    )
    finger = "0.02 0.01 0.06"
    return (
        chain
        + _link("hand", [("0 0 0.03", "0.04 0.12 0.04")], 0.4)
        + _link("left", [("0 0.005 0.03", finger)], 0.03)
        + _link("right", [("0 -0.005 0.03", finger)], 0.03)
        + _joint("left_slide", "hand", "left", "0 0 0.06", ACROSS, "0 0.036 15 0.3", kind="prismatic")
        + _joint(
            "right_slide",
            "hand",
            "right",
            "0 0 0.06",
            ACROSS,
            "-0.036 0 15 0.3",
            _mimic("left_slide", -1),
            kind="prismatic",
        )
    )


def linked() -> str:
    """Seven joints, 0.8 m; six hinges of a gripper after one of them, which keep its fingers parallel (xArm 7)."""
    chain = _chain(
        [
            ("pan", UP, 0.22, "-3 3 50 3"),
            ("lift", ACROSS, 0.02, "-2 2 50 3"),
            ("twist", UP, 0.16, "-3 3 30 3"),
            ("elbow", ACROSS, 0.14, "-0.2 3.4 30 3"),
            ("roll", UP, 0.16, "-3 3 30 3"),
            ("flex", ACROSS, 0.17, "-1.7 2.6 20 3"),
            ("turn", UP, 0.08, "-3 3 20 3"),
        ]
    )
    text, shut = chain + _link("hand", [("0 0 0.03", "0.05 0.09 0.05")], 0.4), "0 0.85 20 2"
    for side, sign in (("left", 1), ("right", -1)):
        follows = _mimic("drive", 1)
        drive = "drive" if side == "left" else "right_outer"
        turn, back = f"{sign} 0 0", f"{-sign} 0 0"
        text += _link(f"{side}_outer_knuckle", [(f"0 {sign * 0.018} 0.021", "0.02 0.02 0.04")], 0.03)
        text += _link(f"{side}_finger", [(f"0 {-sign * 0.02} 0.035", "0.02 0.012 0.05")], 0.03)
        text += _link(f"{side}_inner_knuckle", [(f"0 {sign * 0.018} 0.015", "0.01 0.01 0.03")], 0.02)
        more = "" if side == "left" else follows
        text += _joint(drive, "hand", f"{side}_outer_knuckle", f"0 {sign * 0.034} 0.058", turn, shut, more)
        outer = f"{side}_outer_knuckle"
        text += _joint(f"{side}_finger", outer, f"{side}_finger", f"0 {sign * 0.036} 0.042", back, shut, follows)
        text += _joint(f"{side}_inner", "hand", f"{side}_inner_knuckle", f"0 {sign * 0.02} 0.07", turn, shut, follows)
    return text


def jaw() -> str:
    """Five joints, 0.4 m, and one jaw that turns towards one that does not (SO-100, SO-101)."""
    chain = _chain(
        [
            ("pan", UP, 0.08, "-1.9 1.9 10 6"),
            ("lift", ACROSS, 0.03, "-1.7 1.7 10 6"),
            ("elbow", ACROSS, 0.115, "0 2.8 10 6"),
            ("flex", ACROSS, 0.135, "-1.7 1.7 10 6"),
            ("turn", UP, 0.06, "-2.7 2.8 10 6"),
        ]
    )
    return (
        chain
        + _link("hand", [("0 0.005 0", "0.03 0.05 0.04"), ("0 -0.006 0.06", "0.024 0.012 0.08")], 0.1)
        + _link("jaw", [("0 -0.014 0.04", "0.024 0.012 0.08")], 0.03)
        + _joint("jaw", "hand", "jaw", "0 0.02 0.02", "-1 0 0", "-0.1 1.7 10 6")
    )


FAMILIES = {"sliding": sliding, "linked": linked, "jaw": jaw}


def write_arm(family: str, folder: Path) -> Path:
    """The URDF of one of `FAMILIES`."""
    path = folder / f"{family}.urdf"
    path.write_text(f'<robot name="{family}">{FAMILIES[family]()}</robot>')
    return path
