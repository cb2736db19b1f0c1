"""Names of parts, and how they are built."""
