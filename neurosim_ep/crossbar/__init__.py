"""How weights sit on arrays of devices and are read: mapping, tiles, converters, wires."""
