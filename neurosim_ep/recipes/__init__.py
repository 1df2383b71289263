"""The recipes that are shipped: one TOML file each, named after the recipe it holds."""
