"""Several teachers and assisted teachers (methods 20-22)."""

from aarlab.testbed.methods.method import Method

METHODS: tuple[Method, ...] = ()
