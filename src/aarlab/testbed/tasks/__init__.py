"""Tasks: their rows, files and settings, and how they are built."""
