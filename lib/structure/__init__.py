"""From merged reflections to a structure: hand-over files, charge flipping, refinement."""
