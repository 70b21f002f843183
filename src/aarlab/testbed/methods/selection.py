"""Selecting, weighting and relabelling train rows (methods 12-19)."""

from aarlab.testbed.methods.method import Method

METHODS: tuple[Method, ...] = ()
