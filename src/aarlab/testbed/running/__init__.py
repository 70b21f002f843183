"""Running a method: its contract, its folder, the sandbox job, checks and controls."""
