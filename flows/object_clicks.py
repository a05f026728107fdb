"""Clicks on the page of a bundle: what stands there, and cutting it out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flows.markdown import code, joined, markdown
from pipeline.errors import SplatyardError
from pipeline.scenes.bundle import Bundle
from pipeline.types import F64

if TYPE_CHECKING:
    import viser

    from pipeline.objects.listing import SceneObject

OUTLINE = (240, 60, 160)
ASK, FINDING, NOTHING = "Click on an object.", "Finding objects ...", "Floor, wall or ceiling: click on an object."


class ObjectClicks:
    """Names, outlines and cuts out what a user of the page clicks on; objects are found at the first click.

    Args:
        out: Folder of bundles for versions with objects cut out; None offers none: strangers see the page, too.
    """

    def __init__(self, server: viser.ViserServer, bundle: Bundle, out: Path | None) -> None:
        self._server, self._bundle, self._out = server, bundle, out
        self._busy = threading.Lock()
        self._objects: list[SceneObject] | None = None
        self._chosen: SceneObject | None = None
        with server.gui.add_folder("Objects"):
            self.text = server.gui.add_markdown(ASK)
            self.button = server.gui.add_button("Cut it out", visible=False)
        server.scene.on_click()(lambda event: self.choose(np.array(event.ray_origin), np.array(event.ray_direction)))
        self.button.on_click(lambda _event: self.cut())

    def choose(self, origin: F64, direction: F64) -> None:
        """Name and outline the object that a ray (3,), (3,) meets, world frame."""
        with self._busy:
            from pipeline.objects.listing import BOX_EDGES, bounds_of, object_at, objects_of

            if self._objects is None:
                self.text.content = FINDING
                self._objects = objects_of(self._bundle)
            one = self._chosen = object_at(self._objects, self._bundle.mesh(), origin, direction)
            self.button.visible = one is not None and not one.fixed and self._out is not None
            if one is None:
                self.text.content = NOTHING
                return
            size = " x ".join(f"{edge:.2f}" for edge in one.body.size)
            can = f"part of the building: {one.fixed}" if one.fixed else "could be moved"
            asked = f"splatyard bundle objects {self._bundle.manifest.reference} --cut {one.name}"
            lines = [markdown("**{}**, {} m, {} of it seen", one.name, size, f"{one.seen:.0%}"), markdown("{}", can)]
            self.text.content = joined(lines if one.fixed else [*lines, code(asked)])
            edges = bounds_of(one.body)[np.array(BOX_EDGES)].astype(np.float32)
            self._server.scene.add_line_segments("/object", edges, OUTLINE, thickness=2.0, thickness_units="screen")

    def cut(self) -> None:
        """Write the version of the bundle in which the chosen object is a body."""
        with self._busy:
            from pipeline.objects.version import chosen_objects, cut_out

            if self._chosen is None or self._objects is None or self._out is None:
                return
            self.button.visible, self.text.content = False, markdown("Cutting out {} ...", self._chosen.name)
            try:
                folder = cut_out(self._bundle, chosen_objects(self._objects, [self._chosen.name]), self._out)
                made = Bundle.open(folder).manifest
                gates = f", gates fail: {', '.join(made.failed_gates)}" if made.failed_gates else ""
                self.text.content = markdown("{} has {} as a body{}", code(made.reference), self._chosen.name, gates)
            except SplatyardError as error:
                self.text.content = markdown("{}", str(error))
