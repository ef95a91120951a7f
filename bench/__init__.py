"""The benchmark: Holdfast, its peers and the bare database, measured in one interleaved run."""
