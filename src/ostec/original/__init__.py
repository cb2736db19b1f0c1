"""What only reproduces the released OSTeC."""
