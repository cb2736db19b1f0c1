"""Photos in; meshes in and out; results."""
