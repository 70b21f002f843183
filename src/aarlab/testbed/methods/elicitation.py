"""Using the strong student's own knowledge (methods 26-34)."""

from aarlab.testbed.methods.method import Method

METHODS: tuple[Method, ...] = ()
