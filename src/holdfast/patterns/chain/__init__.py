"""Items processed one after another, in parallel, or on a route that the state chooses: what can be decided purely."""
