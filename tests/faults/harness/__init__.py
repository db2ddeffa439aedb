"""What the faults are made of: a server, an oracle, drives that fail on command."""
