"""Completion by what is known of faces."""
