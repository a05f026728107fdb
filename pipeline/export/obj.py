"""A mesh as Wavefront OBJ: with its texture as a PNG and a material that names it, or bare, for contacts.

PNG, since MuJoCo reads no JPEG.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.export.form import short_origin
from pipeline.export.texture import TexturedMesh, textured_bundle
from pipeline.geometry import Mesh
from pipeline.scenes.bundle import Bundle


def export_obj(bundle: Bundle, folder: Path) -> None:
    """Write `scene.obj`, `scene.mtl` and `scene.png`: the collision mesh with a texture of the splat."""
    write_obj(textured_bundle(bundle), folder / "scene.obj")
    about = "".join(f"# {name}: {text}\n" for name, text in short_origin(bundle).items())
    material = folder / "scene.mtl"
    material.write_text(about + material.read_text())


def write_obj(mesh: TexturedMesh, path: Path) -> None:
    """Write an OBJ [m, the mesh's frame], and beside it a .mtl and a .png of its name."""
    name = path.stem
    Image.fromarray(mesh.image).save(path.with_suffix(".png"))
    # the photos' light is in the texture: nothing shines
    material = f"newmtl {name}\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {name}.png\n"
    path.with_suffix(".mtl").write_text(material)
    with path.open("w") as file:
        file.write(f"mtllib {name}.mtl\nusemtl {name}\n")
        np.savetxt(file, mesh.mesh.vertices, "v %.6f %.6f %.6f")
        np.savetxt(file, mesh.atlas.uv * [1, -1] + [0, 1], "vt %.6f %.6f")
        pairs = np.stack([mesh.mesh.triangles, mesh.atlas.triangles], 2).reshape(-1, 6) + 1
        np.savetxt(file, pairs, "f %d/%d %d/%d %d/%d")


def write_bare_obj(mesh: Mesh, path: Path) -> None:
    """Write an OBJ without colours [m, the mesh's frame]."""
    with path.open("w") as file:
        np.savetxt(file, mesh.vertices, "v %.6f %.6f %.6f")
        np.savetxt(file, mesh.triangles + 1, "f %d %d %d")
