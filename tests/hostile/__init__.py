"""Files and inputs as an attacker would make them. Nothing in them may run, hang or escape."""
