"""Facts at rest. A store keeps and finds rows; it decides nothing."""
