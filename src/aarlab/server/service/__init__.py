"""What the platform does, by topic. HTTP routes, tools and the dashboard are thin callers of it.

What an AAR asks for takes the `Caller` first, then typed input, and returns a core model; a write
also takes the idempotency key. Tokens, scopes and request rates are checked before (`server.auth`).
What the operator asks for is in `reruns`, `verdicts` and `export`.
"""
