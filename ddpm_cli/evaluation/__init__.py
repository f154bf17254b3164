"""What `ddpm eval` and `ddpm table` measure and compare."""
