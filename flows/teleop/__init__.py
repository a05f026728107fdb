"""Teleoperation: a page in the browser from which a person drives a simulated robot, and keeps what goes well."""
