"""The routes, a file a page."""
