"""Many crystals of one phase: indexing ambiguity, clusters, scaling, merging, statistics."""
