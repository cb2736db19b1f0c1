"""What is skin."""
