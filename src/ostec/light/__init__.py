"""Shading and its removal."""
