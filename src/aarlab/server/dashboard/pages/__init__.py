"""The routes, one file per page."""
