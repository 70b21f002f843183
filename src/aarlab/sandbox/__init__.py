"""Runs code that is not trusted: isolated by bubblewrap, or, stamped so, as a plain process."""
