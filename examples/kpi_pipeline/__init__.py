"""KPIs of a quarter: six steps with progress, a saga around them, and a machine for the life of the assessment."""
