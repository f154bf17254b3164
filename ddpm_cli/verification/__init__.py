"""What `ddpm verify` checks: the files of a run, its last steps again, and this machine with a run of its own."""
