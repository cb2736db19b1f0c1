"""Ways to fill what the photo does not show."""
