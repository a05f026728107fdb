"""Training on published bundles."""
