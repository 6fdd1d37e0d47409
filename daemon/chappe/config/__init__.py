"""Reading the configuration: layers, validation with every error at once, the origin of each value, the JSON Schema."""

from chappe.config.load import Layer, Loaded, load, loads

__all__ = ["Layer", "Loaded", "load", "loads"]
