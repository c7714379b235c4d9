"""Prefect tasks: one verb each. Load an artefact, call `lib`, write one artefact."""
