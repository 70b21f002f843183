"""What each page shows, as plain data: the same for HTML and JSON."""
