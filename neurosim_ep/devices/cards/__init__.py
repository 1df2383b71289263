"""The shipped device cards, one TOML file each."""
