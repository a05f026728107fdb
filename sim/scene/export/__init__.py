"""Bundles in the forms that other simulators take."""
