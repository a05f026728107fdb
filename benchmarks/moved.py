"""What moved between two scans of a generated room, against the truth: a door, a drawer and a carton.

python benchmarks/moved.py --keep DIR              build both bundles into DIR, unless they are there, and measure
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.moved_room import HINGE, TrueMotion, moved_room, true_motions
from benchmarks.room_capture import write_room
from benchmarks.truth import rigid_truth_from_poses
from pipeline import Bundle, BuildRequest, build
from pipeline.geometry import Pose, angle_deg
