"""A finished texture onto another mesh: where the face is on each, one bent onto the other, texel by texel."""
