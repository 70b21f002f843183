"""One file per part of the API; each has a `router`."""
