"""Network definitions and the layouts of their files."""
