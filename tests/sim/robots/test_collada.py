"""Shapes in COLLADA files: the same body as in an STL, and files of others refused in one error."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import trimesh

from pipeline.errors import MachineError, SimError
from sim.robots.collada import MOST_PARTS
from sim.robots.model import Robot
from sim.robots.reading import load_robot
from sim.robots.surfaces import Surface, surfaces_of

URDF = """
<robot name="r"><link name="base"><inertial><mass value="1"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
<collision><origin xyz="0 0 0.5"/><geometry><mesh filename="{}" scale="1 1 2"/></geometry></collision></link></robot>
"""
DOCUMENT = """<?xml version="1.0"?>{doctype}
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><created>2026-01-01T00:00:00Z</created><modified>2026-01-01T00:00:00Z</modified>
<unit name="centimeter" meter="{unit}"/><up_axis>Y_UP</up_axis></asset>{libraries}
<library_geometries><geometry id="box"><mesh><source id="p"><float_array id="a" count="{count}">{points}</float_array>
<technique_common><accessor source="#a" count="{rows}" stride="3"><param name="X" type="float"/>
<param name="Y" type="float"/><param name="Z" type="float"/></accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#p"/></vertices>
{faces}</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="s"><node id="n"><translate>30 0 0</translate><rotate>0 0 1 90</rotate>
<scale>1 2 1</scale><instance_geometry url="#box"/></node>{nodes}</visual_scene></library_visual_scenes>
<scene><instance_visual_scene url="#s"/></scene></COLLADA>"""
BOX = trimesh.creation.box([10, 20, 30])
INPUT = '<input semantic="VERTEX" source="#v" offset="0"/>'
TRIANGLES = f'<triangles count="{{}}">{INPUT}<p>{{}}</p></triangles>'


def document(
    faces: np.ndarray = BOX.faces, unit: str = "0.01", doctype: str = "", libraries: str = "", nodes: str = ""
) -> str:
    """A box [cm] below a node that moves, turns and stretches it; a scene of others beside it."""
    given = TRIANGLES.format(len(faces), " ".join(map(str, faces.ravel())))
    line = f'<lines count="1">{INPUT}<p>0 1</p></lines>'
    points = " ".join(map(str, BOX.vertices.ravel()))
    return DOCUMENT.format(
        doctype=doctype,
        unit=unit,
        libraries=libraries,
        count=BOX.vertices.size,
        points=points,
        rows=len(BOX.vertices),
        faces=line + given,
        nodes=nodes,
    )


def load(folder: Path, content: str | bytes) -> Robot:
    """A robot of one link with that shape."""
    (folder / "part.DAE").write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "robot.urdf").write_text(URDF.format("part.DAE"))
    return load_robot(folder / "robot.urdf")


def corners(robot: Robot) -> np.ndarray:
    """Corners (V, 3) of its shape, axes of the link."""
    (shape,) = robot.links[0].shapes
    found = shape.link_from_shape.apply(shape.vertices)
    return found[np.lexsort(found.round(4).T)]


def test_the_shape_is_that_of_its_scene(tmp_path: Path):
    """In metres, with the nodes above it; up is what the URDF says, as with ROS, and lines are no surface."""
    moved = BOX.copy().apply_scale([1, 2, 1])
    moved.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1]))
    moved.apply_translation([30, 0, 0]).apply_scale(0.01)
    moved.export(tmp_path / "part.stl")
    (tmp_path / "stl.urdf").write_text(URDF.format("part.stl"))
    found, expected = corners(load(tmp_path, document())), corners(load_robot(tmp_path / "stl.urdf"))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found.min(0) == pytest.approx([0.1, -0.05, 0.2], abs=1e-6)
    assert found.max(0) == pytest.approx([0.5, 0.05, 0.8], abs=1e-6)


MATERIALS = """<library_effects>{effects}</library_effects><library_materials>{materials}</library_materials>"""
EFFECT = """<effect id="e{0}"><profile_COMMON><technique sid="c"><lambert><diffuse><color>{1}</color></diffuse>
</lambert></technique></profile_COMMON></effect>"""


def shown(folder: Path, colors: Sequence[str], faces: Sequence[np.ndarray]) -> list[Surface]:
    """What a robot shows whose visual is the box, in parts of those colours and faces."""
    parts = range(len(colors))
    bound = "".join(f'<instance_material symbol="m{n}" target="#m{n}"/>' for n in parts)
    bound = f"<bind_material><technique_common>{bound}</technique_common></bind_material>"
    libraries = MATERIALS.format(
        effects="".join(EFFECT.format(n, color) for n, color in enumerate(colors)),
        materials="".join(f'<material id="m{n}"><instance_effect url="#e{n}"/></material>' for n in parts),
    )
    written = [
        TRIANGLES.format(len(own), " ".join(map(str, own.ravel()))).replace("<triangles", f'<triangles material="m{n}"')
        for n, own in enumerate(faces)
    ]
    given = TRIANGLES.format(len(BOX.faces), " ".join(map(str, BOX.faces.ravel())))
    whole = document(libraries=libraries).replace(given, "".join(written))
    whole = whole.replace(
        '<instance_geometry url="#box"/>', f'<instance_geometry url="#box">{bound}</instance_geometry>'
    )
    (folder / "part.DAE").write_text(whole)
    solid = "<collision><geometry><sphere radius='1'/></geometry></collision></link>"
    visual = URDF.format("part.DAE").replace("collision>", "visual>").replace("</link>", solid)
    (folder / "robot.urdf").write_text(visual)
    return list(surfaces_of(load_robot(folder / "robot.urdf"), 1000))


def test_what_is_shown_has_the_colours_of_its_faces(tmp_path: Path):
    """One part for each: a box whose first half of triangles is red, and whose others are blue."""
    red, blue = shown(tmp_path, ("0.9 0.1 0.2 1", "0.1 0.2 0.9 1"), np.split(BOX.faces, 2))
    assert red.color == pytest.approx((0.9, 0.1, 0.2))
    assert blue.color == pytest.approx((0.1, 0.2, 0.9))
    assert len(red.corners) == len(blue.corners) == 6
    both = np.concatenate([red.corners, blue.corners]).reshape(-1, 3)
    assert both.min(0) == pytest.approx([0.1, -0.05, 0.2], abs=1e-6)
    assert both.max(0) == pytest.approx([0.5, 0.05, 0.8], abs=1e-6)
    x, y, z = BOX.vertices[BOX.faces[:6]].reshape(-1, 3).mean(0) / 100
    assert red.corners.reshape(-1, 3).mean(0) == pytest.approx([0.3 - 2 * y, x, 0.5 + 2 * z], abs=1e-6)


def test_few_colours_are_told_apart(tmp_path: Path):
    """A triangle alone is no mesh to MuJoCo, and a file may name a colour for each: they get that of the most."""
    colors = ["0.9 0.1 0.2 1", "0.1 0.2 0.9 1"]
    (whole,) = shown(tmp_path, colors, [BOX.faces[:11], BOX.faces[11:]])
    assert len(whole.corners) == 12
    assert whole.color == pytest.approx((0.9, 0.1, 0.2))
    count = 3 * MOST_PARTS
    many = tmp_path / "many"
    many.mkdir()
    parts = shown(many, [f"{n / count} 0.1 0.2 1" for n in range(count)], [BOX.faces] * count)
    assert len(parts) == MOST_PARTS


def _packed(name: str = "part.dae") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(name, document())
    return content.getvalue()


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(12))
GEOMETRY, NODE = '<instance_geometry url="#box"/>', '<instance_node url="#d{}"/>'
DOUBLED = "".join(f'<node id="d{n}">{NODE.format(n - 1) * 2 if n else GEOMETRY}</node>' for n in range(60))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (_packed(), "compressed"),
        (b"<!-- -->" + _packed(), "compressed"),
        ("", "part.DAE: "),
        ("<COLLADA/>", "no scene"),
        (document(faces=np.zeros((0, 3), int)), "no triangles"),
        (document(faces=np.array([[0, 1, 999]])), "part.DAE: "),
        (document(faces=np.array([[0, 1, -999]])), "part.DAE: "),
        (document(unit="nan"), "not finite"),
        (document(unit="1e300"), "finite|beyond"),
        (document(doctype=f"<!DOCTYPE r [{LAUGHS}]>", libraries="<extra>&a11;</extra>"), "part.DAE: "),
        (
            document(
                libraries=f"<library_nodes>{DOUBLED}</library_nodes>",
                nodes='<node id="e"><instance_node url="#d59"/></node>',
            ),
            "more than 10,000 nodes",
        ),
        (document(nodes="<node>" * 5000 + "</node>" * 5000), "part.DAE: "),
        (document(faces=np.tile(BOX.faces, (20_000, 1))), "more than 200,000 triangles"),
    ],
)
def test_files_of_others_are_bounded(tmp_path: Path, content: str | bytes, found: str):
    """One error that names the file; nothing is unpacked, and nothing is drawn as often as a scene repeats it."""
    with pytest.raises(SimError, match=found):
        load(tmp_path, content)


def test_nothing_else_is_read(tmp_path: Path):
    """Images that it names are no concern of a body's."""
    named = '<library_images><image id="i"><init_from>/dev/zero</init_from></image></library_images>'
    assert len(corners(load(tmp_path, document(libraries=named)))) == 8
    hidden = '<!DOCTYPE r [<!ENTITY a SYSTEM "/etc/hostname">]>'
    try:
        robot = load(tmp_path, document(doctype=hidden, libraries="<extra>&a;</extra>"))
    except SimError as error:
        assert Path("/etc/hostname").read_text().strip() not in str(error)
    else:
        assert len(corners(robot)) == 8


def test_without_pycollada_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By pip's command."""
    monkeypatch.setitem(sys.modules, "collada", None)
    with pytest.raises(MachineError, match=r"pycollada(?s:.*)splatyard\[simulate\]"):
        load(tmp_path, document())
