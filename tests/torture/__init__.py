"""Runs are killed, damaged and starved, for an hour or longer: `make torture`. A short part is in `make test`."""
