"""Textures onto other meshes."""
