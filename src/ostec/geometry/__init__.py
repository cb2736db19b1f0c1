"""Cameras, meshes, crops, rasterisers. Knows nothing of textures, networks or files."""
