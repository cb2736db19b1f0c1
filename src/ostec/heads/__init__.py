"""Head models and their fitting."""
