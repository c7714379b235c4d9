"""Which series are the same phase: cells compared, clustered, kept in cells.yaml."""
