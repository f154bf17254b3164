"""What `ddpm bench` measures."""
