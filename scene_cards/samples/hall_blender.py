"""Render the sample hall with Cycles (Blender's `bpy` module, a development-only dependency)."""

from __future__ import annotations

from pathlib import Path

import bpy
import cv2
import mathutils
import numpy as np
from numpy.typing import NDArray

from scene_cards.samples.hall_model import HEIGHT, Model
from scene_cards.samples.hall_sensor import GL_FROM_CV, Intrinsics
from scene_cards.samples.hall_textures import LAMP_LEVEL, LAMP_SIZE, LAMPS

LAMP_WATTS = 52.0


class Renderer:
    """A Blender scene of the hall; one image a call."""

    def __init__(self, model: Model, textures: dict[str, NDArray[np.uint8]], work: Path, threads: int) -> None:
        """Build the scene; textures go through PNG files in the working folder."""
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self._settings(threads)
        self._geometry(model, textures, work)
        self._lamps()
        self.camera = bpy.data.cameras.new("phone")
        self.eye = bpy.data.objects.new("phone", self.camera)
        self.scene.collection.objects.link(self.eye)
        self.scene.camera = self.eye

    def _settings(self, threads: int) -> None:
        scene = self.scene
        scene.render.engine = "CYCLES"
        scene.render.threads_mode, scene.render.threads = "FIXED", threads
        scene.render.use_persistent_data = True
        scene.render.resolution_percentage = 100
        scene.view_settings.view_transform = "Standard"  # plain sRGB, one exposure for all
        cycles = scene.cycles
        cycles.device = "CPU"
        cycles.use_adaptive_sampling = cycles.use_light_tree = False
        cycles.max_bounces = cycles.diffuse_bounces = 2
        cycles.glossy_bounces = cycles.transmission_bounces = 0
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 4.0
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"

    def _geometry(self, model: Model, textures: dict[str, NDArray[np.uint8]], work: Path) -> None:
        vertices, triangles, owner = model.mesh()
        mesh = bpy.data.meshes.new("hall")
        mesh.from_pydata(vertices.tolist(), [], triangles.tolist())
        uv = np.concatenate([f.uv / model.texture_size[f.texture] for f in model.faces])
        layer = mesh.uv_layers.new(name="uv")
        layer.data.foreach_set("uv", uv[triangles.ravel()].astype(np.float32).ravel())
        slots: dict[str, int] = {}
        (work / "textures").mkdir(parents=True, exist_ok=True)
        for texture, pixels in textures.items():
            path = work / "textures" / f"{texture}.png"
            cv2.imwrite(str(path), pixels[..., ::-1])
            mesh.materials.append(self._material(texture, path))
            slots[texture] = len(slots)
        index = [slots[model.faces[i].texture] for i in owner]
        mesh.polygons.foreach_set("material_index", index)
        mesh.update()
        self.scene.collection.objects.link(bpy.data.objects.new("hall", mesh))

    @staticmethod
    def _material(name: str, path: Path) -> bpy.types.Material:
        """Return a matt material with the texture as its colour."""
        material = bpy.data.materials.new(name)
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.clear()
        image = nodes.new("ShaderNodeTexImage")
        image.image = bpy.data.images.load(str(path))
        image.extension = "EXTEND"
        matt = nodes.new("ShaderNodeBsdfDiffuse")
        output = nodes.new("ShaderNodeOutputMaterial")
        links.new(image.outputs["Color"], matt.inputs["Color"])
        links.new(matt.outputs["BSDF"], output.inputs["Surface"])
        if name == "ceiling":  # the painted lamps are lit; the area lamps below do the lighting
            grey, lit = nodes.new("ShaderNodeRGBToBW"), nodes.new("ShaderNodeMath")
            lit.operation, lit.inputs[1].default_value = "GREATER_THAN", LAMP_LEVEL
            glow, both = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeMixShader")
            links.new(image.outputs["Color"], grey.inputs["Color"])
            links.new(grey.outputs["Val"], lit.inputs[0])
            links.new(lit.outputs["Value"], both.inputs["Fac"])
            links.new(matt.outputs["BSDF"], both.inputs[1])
            links.new(glow.outputs["Emission"], both.inputs[2])
            links.new(both.outputs["Shader"], output.inputs["Surface"])
            material.cycles.emission_sampling = "NONE"
        return material

    def _lamps(self) -> None:
        for x, y in LAMPS:
            lamp = bpy.data.lights.new("lamp", "AREA")
            lamp.shape, lamp.energy = "RECTANGLE", LAMP_WATTS
            lamp.size, lamp.size_y = LAMP_SIZE
            lamp.color = (1.0, 0.97, 0.92)
            item = bpy.data.objects.new("lamp", lamp)
            item.location = (x, y, HEIGHT - 0.05)
            item.visible_camera = False
            self.scene.collection.objects.link(item)

    def _aim(self, camera: Intrinsics, pose: NDArray[np.float64]) -> None:
        render, lens = self.scene.render, self.camera
        render.resolution_x, render.resolution_y = camera.width, camera.height
        lens.sensor_fit, lens.sensor_width = "HORIZONTAL", 36.0
        lens.lens = camera.fx * 36.0 / camera.width
        lens.shift_x = (camera.width / 2 - camera.cx) / camera.width
        lens.shift_y = (camera.cy - camera.height / 2) / camera.width
        lens.clip_start = 0.02
        self.eye.matrix_world = mathutils.Matrix((pose @ GL_FROM_CV).tolist())

    def image(self, path: Path, camera: Intrinsics, pose: NDArray[np.float64], samples: int, seed: int) -> None:
        """Render one view (fx must equal fy) into a PNG file."""
        self._aim(camera, pose)
        cycles, settings = self.scene.cycles, self.scene.render.image_settings
        cycles.samples, cycles.seed, cycles.use_denoising = samples, seed, True
        settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGB", "8"
        self.scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)

    def depth(self, path: Path, camera: Intrinsics, pose: NDArray[np.float64]) -> NDArray[np.float32]:
        """Render planar depth through the pixel centres with Blender's own camera, in metres."""
        self._aim(camera, pose)
        probe = bpy.data.materials.new("depth")
        probe.use_nodes = True
        nodes, links = probe.node_tree.nodes, probe.node_tree.links
        nodes.clear()
        data, glow = nodes.new("ShaderNodeCameraData"), nodes.new("ShaderNodeEmission")
        output = nodes.new("ShaderNodeOutputMaterial")
        links.new(data.outputs["View Z Depth"], glow.inputs["Color"])
        links.new(glow.outputs["Emission"], output.inputs["Surface"])
        layer, cycles = self.scene.view_layers[0], self.scene.cycles
        layer.material_override = probe
        cycles.samples, cycles.use_denoising, cycles.filter_width = 1, False, 0.01
        settings = self.scene.render.image_settings
        settings.file_format, settings.color_depth = "OPEN_EXR", "32"
        self.scene.render.filepath = str(path)
        bpy.ops.render.render(write_still=True)
        layer.material_override, cycles.filter_width = None, 1.5
        image = bpy.data.images.load(str(path))
        pixels = np.empty(len(image.pixels), np.float32)
        image.pixels.foreach_get(pixels)
        return pixels.reshape(camera.height, camera.width, -1)[::-1, :, 0]
