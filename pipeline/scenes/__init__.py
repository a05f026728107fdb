"""Scene bundles and where they are found: manifest, format versions, registries, references and scenes.lock."""
