"""Pictures of what runs and of what ran: one description, drawn as Mermaid, DOT, SVG and text for a terminal."""
