"""Losses and training on weak labels (methods 3-10)."""

from aarlab.testbed.methods.method import Method

METHODS: tuple[Method, ...] = ()
