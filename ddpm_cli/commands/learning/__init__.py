"""What `ddpm train` does beside the loop."""
