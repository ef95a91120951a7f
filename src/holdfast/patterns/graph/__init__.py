"""State graphs: nodes that change a shared state, edges that decide what runs next."""
