"""A small reverse proxy to the model vendors for agents that run in a sandbox without a key."""
