"""AARs that are other people's agents: they join over MCP, or run in our sandbox."""
