"""What keeps flows running by themselves: server, workers, deployments, the door for instruments.

`ewaldflow serve` starts it (`keeper`), and starts again whatever dies. Instruments speak to the
`gateway` alone, which refuses what it should not see and hands the rest to Prefect.
"""
