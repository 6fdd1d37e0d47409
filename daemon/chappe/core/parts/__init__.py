"""The engine's parts: each decides about one side of the device, and all of them speak through one `Context`."""
