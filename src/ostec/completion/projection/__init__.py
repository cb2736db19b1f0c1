"""The paper's method: views completed by a face generator."""
