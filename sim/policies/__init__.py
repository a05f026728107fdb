"""Policies from elsewhere: of a policy server, an ONNX file, a Python function, a checkpoint of LeRobot."""
