"""Prefect flows: what a scientist schedules or triggers. One file per flow, no science here."""
