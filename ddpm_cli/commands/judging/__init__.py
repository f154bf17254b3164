"""How `ddpm eval` judges and `ddpm table` compares."""
