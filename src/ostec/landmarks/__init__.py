"""A face's points."""
