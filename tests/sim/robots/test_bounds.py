"""Robots' files of others: each is refused in one error, and none is waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import SimError
from sim.controlled import find_robot

INERTIA = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
BALL = '<geometry><sphere radius="0.1"/></geometry>'
SOLID = f"<collision>{BALL}</collision>"


def urdf(links: int, *, solid: str = SOLID, joint: str = "revolute", below: bool = True, **changes: str) -> str:
    """Links one below the other, or side by side, with some of the text replaced."""
    text = f'<robot name="r"><link name="l0">{INERTIA}{solid}</link>'
    for number in range(1, links):
        text += (
            f'<link name="l{number}">{INERTIA}{solid}</link><joint name="j{number}" type="{joint}">'
            f'<origin xyz="0 0 -0.1"/><axis xyz="0 1 0"/><parent link="l{number - 1 if below else 0}"/>'
            f'<child link="l{number}"/><limit lower="-1" upper="1" effort="1" velocity="1"/></joint>'
        )
    for name, value in changes.items():
        text = text.replace(f'{name}="1"', f'{name}="{value}"').replace("0 0 -0.1", changes.get("xyz", "0 0 -0.1"))
    return text + "</robot>"


def mjcf(inside: str = "", before: str = "") -> str:
    """A ball with more in it."""
    return f'<mujoco>{before}<worldbody><body><freejoint/><geom size="0.1"/>{inside}</body></worldbody></mujoco>'


def mesh(file: str) -> str:
    """A link whose shape is that file."""
    return f'<collision><geometry><mesh filename="{file}"/></geometry></collision>'


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha"}">' for n in range(12))
HIDDEN = '<!DOCTYPE r [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
HALVES = '<link name="{}"/><joint name="{}" type="fixed"><parent link="{}"/><child link="{}"/></joint>'


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (urdf(5000), "64995 elements"),
        (urdf(5000, below=False), "64995 elements"),
        (urdf(301), "301 links"),
        (urdf(26, joint="prismatic", below=False), "25 joints that slide"),
        ("<mujoco><worldbody>" + "<body>" * 200_000, "200002 elements"),
        (mjcf("<replicate count='100000000' offset='1 0 0'><geom size='1'/></replicate>"), "10000 times or more"),
        (mjcf("<replicate count='90'><replicate count=' 90'><geom size='1'/></replicate></replicate>"), "8100 times"),
        (mjcf("<flexcomp name='f' type='grid' count='1000 1000 1000'/>"), "10000 times or more"),
        (mjcf(before="<asset><hfield name='h' size='1 1 1 1' nrow='100000' ncol='9'/></asset>"), "100000 to a side"),
        (mjcf(before="<asset><texture name='t' type='2d' builtin='flat' width='9' height='99999'/></asset>"), "99999"),
        (mjcf(before="<size memory='900G'/>"), "memory"),
        (mjcf(before="<include file='pipe'/>"), "a pipe instead of a file"),
        (mjcf(before="<include file='/dev/zero'/>"), "a device instead of a file"),
        (mjcf(before="<include file='robot.xml'/>"), "already included"),
        (mjcf(before="<include file='large.xml'/>"), "20007 elements"),
        (mjcf(before="<include file='/etc/passwd'/>"), "XML"),
        (mjcf("<geom type='mesh' mesh='m'/>", "<asset><mesh name='m' file='pipe'/></asset>"), "a pipe instead"),
        (mjcf(before="<asset><texture name='t' type='2d' file='/dev/zero'/></asset>"), "a device instead"),
        (mjcf(before="<asset><hfield name='h' size='1 1 1 1' file='pipe'/></asset>"), "a pipe instead"),
        (mjcf(before="<extension><plugin plugin='mujoco.evil'/></extension>"), "plugin mujoco.evil not found"),
        (urdf(2, solid=mesh("pipe")), "a pipe instead"),
        (urdf(2, solid=mesh("faces.stl")), "faces"),
        (urdf(2, solid=mesh("../../../etc/passwd")), "passwd"),
        (urdf(2, solid=mesh("package://../../etc/passwd")), "passwd"),
        (urdf(2, solid=mesh("file:///etc/passwd")), "passwd"),
        (urdf(3, solid=""), "no <collision> in a URDF"),
        (urdf(3, solid=f"<visual>{BALL}</visual>"), "no <collision> in a URDF"),
        (urdf(3, iyy="nan"), "inertia"),
        (urdf(3, ixx="1e308"), "inertia"),
        (urdf(3, value="nan"), "mass"),
        (urdf(3, xyz="0 0 1e308"), "pos"),
        (urdf(3, xyz="0 0 nan"), "pos"),
        (urdf(3, velocity="fast"), "'fast'"),
        (urdf(3).replace("<link", "<evil:link/><link", 1), "unbound prefix"),
        (f"<!DOCTYPE r [{LAUGHS}]>{urdf(3)}".replace('name="r"', 'name="&a11;"'), "amplification|entit"),
        (HIDDEN + urdf(3).replace('name="r"', 'name="&a;"'), "entity"),
        (f'<robot name="r">{HALVES.format("a", "j", "a", "b")}{HALVES.format("b", "k", "b", "a")}</robot>', "URDF"),
        ("<robot/>", "0 bodies"),
        ("", "empty"),
        ("\0\1", "XML"),
    ],
)
def test_hostile_robots_are_refused(content: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Too large before it is compiled, files that are none, of other folders, numbers that no robot has."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("large.xml").write_text("<mujoco>" + "<a/>" * 20_000)
    Path("faces.stl").write_bytes(bytes(80) + (4 * 10**9).to_bytes(4, "little"))
    path = Path("robot.urdf" if "<robot" in content else "robot.xml")
    path.write_text(content)
    with pytest.raises(SimError, match=found) as raised:
        find_robot(str(path))
    assert len(str(raised.value)) < 800 and "root:" not in str(raised.value)


def test_links_that_are_only_seen_are_links(tmp_path: Path):
    """As long as others are solid."""
    path = tmp_path / "robot.xml"
    seen = "<geom size='0.1' contype='0' conaffinity='0'/>"
    servo = "<actuator><position joint='hip' kp='20'/></actuator>"
    path.write_text(mjcf(f"<body><joint name='hip'/>{seen}</body>", servo))
    assert [len(link.shapes) for link in find_robot(str(path))[0].links] == [1, 0]
