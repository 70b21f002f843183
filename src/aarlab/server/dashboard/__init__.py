"""What the operator looks at: pages over the same store as the API, without a script."""
