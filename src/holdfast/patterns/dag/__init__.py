"""DAGs: tasks that start as soon as those that they depend on allow it."""
