"""aarlab: automated alignment research with scores that can be trusted."""

__version__ = "0.1.0"
