"""Weak-to-strong supervision, the built-in problem. Its tasks are those of the test bed."""
