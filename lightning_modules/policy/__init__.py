"""The policy gradient: advantages and losses."""
