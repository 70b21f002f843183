"""Methods that let a model write (23, 24)."""

from aarlab.testbed.methods.method import Method

METHODS: tuple[Method, ...] = ()
