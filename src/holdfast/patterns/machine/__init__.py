"""State machines: statecharts whose transitions are decided in commits."""
