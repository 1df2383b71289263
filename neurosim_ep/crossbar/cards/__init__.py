"""The shipped array cards, one TOML file each."""
