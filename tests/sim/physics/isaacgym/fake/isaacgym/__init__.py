"""An Isaac Gym for tests: the stubs' signatures and Isaac Gym's conventions over MuJoCo's physics."""

import sys

if "torch" in sys.modules:
    raise ImportError("PyTorch was imported before isaacgym modules")
print("Importing module 'gym_38' (stdout is not only for answers)")  # noqa: T201 the real one does so
